"""What the guest tells the host: one JSON line per stage on the virtio-serial port org.rave.ready.

Imported by code on the boot's critical path, so it imports next to nothing.
"""

from __future__ import annotations

import os

PORT = "org.rave.ready"
PORTS = "/sys/class/virtio-ports"
INSTANCE = "/run/rave/instance-id"
BOOT = "/proc/sys/kernel/random/boot_id"
STATUS = "/run/rave/status.json"
# Where people find this machine, as they write it: scheme, host and port.
ORIGIN = "/run/rave/origin"


def send(stage: str, **fields: object) -> None:
    """Report a stage, with the machine's instance id and uptime; silent where nobody listens.

    Args:
        stage: `systemd`, `sshd`, `loading`, `core`, `services`, `secrets`, `ban`, `unban`,
            `stopping` or `failed`.
        fields: further members of the line; must be JSON.
    """
    device = port(PORTS)
    if device is None:
        return
    data = line(stage, instance(), uptime(), fields)
    handle = os.open(device, os.O_WRONLY | os.O_NOCTTY)
    try:
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def line(stage: str, instance_id: str, seconds: float, fields: dict[str, object]) -> bytes:
    """The bytes of one report, newline included. `seconds` is the uptime."""
    import json

    document = {"v": 1, "instance": instance_id, "boot": read(BOOT), "stage": stage}
    document |= {"uptime": seconds, **fields}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def port(directory: str, wanted: str = PORT) -> str | None:
    """The device of the port by the name the host gave it; udev is not there to link it."""
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return None
    for entry in entries:
        if read(f"{directory}/{entry}/name") == wanted:
            return f"/dev/{entry}"
    return None


def instance() -> str:
    """The instance id that the host gave this machine, or an empty string."""
    return read(INSTANCE)


def uptime() -> float:
    """Seconds since the kernel started."""
    return float(read("/proc/uptime").split()[0])


def read(path: str) -> str:
    """The text of a small file without surrounding space, empty if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(handle, 65536).decode().strip()
    finally:
        os.close(handle)


def write(path: str, text: str) -> None:
    """Put a world-readable file in place at once."""
    temporary = f"{path}.new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
    os.rename(temporary, path)
