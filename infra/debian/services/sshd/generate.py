"""OpenSSH: the only way in. The settings are facts; paths and ports are this base's."""

from __future__ import annotations

from typing import Any

# Host key and authorized key come as credentials of the machine (SMBIOS), so neither is ever in the
# image. Keys alone need no PAM, and a login is much faster without it.
OURS = """\
AddressFamily inet
HostKey /run/credentials/@system/rave.ssh-host-key
AuthorizedKeysFile /run/rave/ssh/authorized_keys
UsePAM no
Subsystem sftp internal-sftp
"""
# The rest of the lists are separated by commas (sshd_config(5)).
BY_SPACE = {"AllowUsers"}


def files(plan: dict[str, Any]) -> dict[str, str]:
    """sshd_config."""
    services = plan["services"]
    settings = "".join(f"{name} {word(name, v)}\n" for name, v in plan["facts"]["sshd"].items())
    ports = "".join(f"Port {port['port']}\n" for port in services["sshd"]["ports"])
    text = f"# Generated from the plan.\n{ports}{OURS}{settings}PermitOpen {places(services)}\n"
    return {"etc/ssh/sshd_config": text}


def word(name: str, value: bool | int | str | list[str]) -> str:
    """A value as sshd reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return (" " if name in BY_SPACE else ",").join(value)
    return str(value)


def places(services: dict[str, Any]) -> str:
    """Where local forwards may lead: the loopback ports of the plan."""
    ports = sorted(p["port"] for s in services.values() for p in s["ports"] if not p["exposed"])
    return " ".join(f"127.0.0.1:{port} localhost:{port}" for port in ports) or "none"
