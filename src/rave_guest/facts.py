"""Parsers of what the kernel and systemd say. Pure: text in, values out. Standard library only."""

from __future__ import annotations

import re
import socket
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Listener(namedtuple("Listener", ("protocol", "address", "port", "uid"))):
    """A socket that waits for peers."""

    __slots__ = ()
    protocol: str
    address: str
    port: int
    uid: int

    @property
    def loopback(self) -> bool:
        """Whether only the machine itself can reach it."""
        return self.address.startswith(("127.", "::ffff:127.")) or self.address == "::1"

    def __str__(self) -> str:
        """Return it the way ss(8) prints it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {host}:{self.port}"


class Mount(namedtuple("Mount", ("point", "kind", "options"))):
    """A line of /proc/self/mountinfo."""

    __slots__ = ()
    point: str
    kind: str
    options: frozenset[str]


class Route(namedtuple("Route", ("interface", "destination", "gateway", "mask"))):
    """An IPv4 route."""

    __slots__ = ()
    interface: str
    destination: str
    gateway: str
    mask: str


# Socket states of the kernel (include/net/tcp_states.h): TCP_LISTEN, and TCP_CLOSE, which is
# what an unconnected UDP socket shows.
_WAITING = {"tcp": "0A", "udp": "07"}


def listeners(text: str, protocol: str) -> list[Listener]:
    """Read /proc/net/{tcp,tcp6,udp,udp6}; `protocol` is "tcp" or "udp"."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[3] == _WAITING[protocol]:
            host, port = fields[1].rsplit(":", 1)
            found.append(Listener(protocol, kernel_address(host), int(port, 16), int(fields[7])))
    return found


def kernel_address(text: str) -> str:
    """Decode the hexadecimal, host-order words in which Linux prints an address.

    Raises:
        ValueError: if it is neither an IPv4 nor an IPv6 address.
    """
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) not in (4, 16):
        raise ValueError(f"not an address: {text!r}")
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def routes(text: str) -> list[Route]:
    """Read /proc/net/route."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:
            destination, gateway, mask = (kernel_address(fields[i]) for i in (1, 2, 7))
            found.append(Route(fields[0], destination, gateway, mask))
    return found


def meminfo(text: str) -> dict[str, int]:
    """Read /proc/meminfo as MiB, rounded down (counts of huge pages stay out)."""
    pairs = re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(kib) // 1024 for name, kib in pairs}


def mounts(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo (proc(5)); options of mount and superblock are joined."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if separator and len(fields) > 5 and len(rest) > 2:
            options = frozenset(fields[5].split(",")) | frozenset(rest[2].split(","))
            found.append(Mount(_unescape(fields[4]), rest[0], options))
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount_of(path: str, table: list[Mount]) -> Mount | None:
    """Return the mount that holds `path`: the longest mount point above it, the last of several."""
    above = [m for m in table if (path + "/").startswith(m.point.rstrip("/") + "/")]
    # Of mounts on one point the last one covers the others; max() takes the first it meets.
    return max(reversed(above), key=lambda m: len(m.point.rstrip("/")), default=None)


def properties(text: str) -> dict[str, dict[str, str]]:
    """Read `systemctl show UNIT… --property=Id,…`: one block per unit, keyed by Id."""
    found = {}
    for block in text.split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "Id" in pairs:
            found[pairs["Id"]] = pairs
    return found


def usable_passwords(shadow: str) -> list[str]:
    """Return the accounts of /etc/shadow that a password can open: neither `!` nor `*` leads it.

    An empty field opens without any password and counts too (shadow(5)).
    """
    entries = [line.split(":") for line in shadow.splitlines() if ":" in line]
    return [fields[0] for fields in entries if not fields[1].startswith(("!", "*"))]


def superusers(passwd: str) -> list[str]:
    """Return the accounts of /etc/passwd with user id 0."""
    entries = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 6]
    return [fields[0] for fields in entries if fields[2] == "0"]


def nft_ports(expressions: list[dict[str, Any]]) -> set[int]:
    """Return the TCP destination ports that a rule of nftables' JSON matches (ports, sets, ranges).

    A rule that matches no port, such as the one for established connections, gives nothing.
    """
    found: set[int] = set()
    for match in (e["match"] for e in expressions if "match" in e):
        payload = match["left"].get("payload", {}) if isinstance(match["left"], dict) else {}
        if payload.get("protocol") in {"tcp", "th"} and payload.get("field") == "dport":
            right = match["right"]
            for item in right["set"] if isinstance(right, dict) and "set" in right else [right]:
                found |= _ports(item)
    return found


def _ports(item: Any) -> set[int]:
    if isinstance(item, dict) and "range" in item:
        low, high = item["range"]
        return set(range(low, high + 1))
    return {item} if isinstance(item, int) else set()
