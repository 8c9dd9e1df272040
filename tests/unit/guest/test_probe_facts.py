"""The parsers of what the kernel and systemd say."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import facts
from rave_guest.services import redis, sshd

if TYPE_CHECKING:
    import ipaddress

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11879 1
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   108        0 9941 1
   2: 0F02000A:0016 0202000A:B0CE 01 00000000:00000000 02:000AFB9B 00000000     0        0 12008 4
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  12: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 1 2 0 0
"""
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0202000A	0003	0	0	0	00000000	0	0	0
eth0	0002000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
UNSET = "0.0.0.0"  # noqa: S104 - how the kernel spells no address
MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
25 22 0:22 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=202668k,mode=755
40 25 0:35 / /run/secrets.d rw,nosuid,nodev,noexec,relatime shared:20 - ramfs none rw,mode=751
41 22 0:36 / /mnt/with\\040space rw - tmpfs none rw
42 22 0:37 / /mnt/with\\040space ro - ramfs none ro
"""


def test_listeners_are_the_sockets_that_wait() -> None:
    found = facts.listeners(TCP, "tcp")
    assert [str(item) for item in found] == ["tcp 0.0.0.0:22", "tcp 127.0.0.1:5432"]
    assert [item.loopback for item in found] == [False, True]
    assert [item.uid for item in found] == [0, 108]


def test_an_unconnected_udp_socket_waits_too() -> None:
    (found,) = facts.listeners(UDP, "udp")
    assert (found.address, found.port, found.loopback) == ("127.0.0.53", 53, True)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("::1", True), ("::ffff:127.0.0.1", True), ("::", False), ("10.0.2.15", False)],
)
def test_loopback_in_all_its_spellings(address: str, loopback: bool) -> None:
    assert facts.Listener("tcp", address, 1, 0).loopback is loopback


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_survives_the_kernel_s_spelling(address: ipaddress.IPv4Address) -> None:
    spelt = int.from_bytes(address.packed, "little")
    assert facts.kernel_address(f"{spelt:08X}") == str(address)


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_survives_the_kernel_s_spelling(address: ipaddress.IPv6Address) -> None:
    words = [address.packed[at : at + 4][::-1].hex().upper() for at in range(0, 16, 4)]
    assert facts.kernel_address("".join(words)) == socket.inet_ntop(socket.AF_INET6, address.packed)


@pytest.mark.parametrize("text", ["", "00", "0" * 24, "0" * 40])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        facts.kernel_address(text)


def test_routes() -> None:
    assert facts.routes(ROUTES) == [
        facts.Route("eth0", UNSET, "10.0.2.2", UNSET),
        facts.Route("eth0", "10.0.2.0", UNSET, "255.255.255.0"),
    ]


def test_meminfo_is_read_in_mib_and_leaves_counts_out() -> None:
    text = "MemTotal:        2026684 kB\nMemAvailable:    1640000 kB\nHugePages_Total:       0\n"
    assert facts.meminfo(text) == {"MemTotal": 1979, "MemAvailable": 1601}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/run/secrets.d/3", "ramfs"),
        ("/run/secrets.d", "ramfs"),
        ("/run/secrets.data", "tmpfs"),
        ("/etc", "ext4"),
        ("/", "ext4"),
        ("/mnt/with space/a", "ramfs"),
    ],
)
def test_the_mount_of_a_path_is_the_nearest_and_the_last(path: str, kind: str) -> None:
    mount = facts.mount_of(path, facts.mounts(MOUNTS))
    assert mount is not None
    assert mount.kind == kind


def test_without_mounts_there_is_none() -> None:
    assert facts.mount_of("/etc", facts.mounts("rubbish\n")) is None


def test_mount_options_hold_those_of_both_sides() -> None:
    mount = facts.mount_of("/run/secrets.d", facts.mounts(MOUNTS))
    assert mount is not None
    assert {"nosuid", "nodev", "noexec", "mode=751"} <= mount.options


def test_properties_come_one_block_per_unit() -> None:
    text = "Id=a.service\nActiveState=active\n\nId=b.service\nActiveState=failed\nResult=a=b\n"
    found = facts.properties(text)
    assert found["a.service"]["ActiveState"] == "active"
    assert found["b.service"]["Result"] == "a=b"


def test_sshd_keywords_may_repeat() -> None:
    found = sshd.keywords("port 22\nHostKey /a\nhostkey /b\npermitrootlogin no\n")
    assert found == {"port": ["22"], "hostkey": ["/a", "/b"], "permitrootlogin": ["no"]}


@pytest.mark.parametrize(
    ("field", "usable"),
    [("*", False), ("!", False), ("!*", False), ("!$6$x$y", False), ("", True), ("$y$j9T$x", True)],
)
def test_which_shadow_fields_open_an_account(field: str, usable: bool) -> None:
    assert facts.usable_passwords(f"rave:{field}:19000:0:99999:7:::\n") == ["rave"] * usable


def test_superusers() -> None:
    text = (
        "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nrave:x:1000:1000::/home/rave:/sh\n"
    )
    assert facts.superusers(text) == ["root", "toor"]


def test_redis_info() -> None:
    text = "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nused_memory:1024\r\n"
    assert redis.redis_info(text) == {"redis_version": "7.0.15", "used_memory": "1024"}


def dport(right: object) -> list[dict[str, object]]:
    left = {"payload": {"protocol": "tcp", "field": "dport"}}
    return [{"match": {"op": "==", "left": left, "right": right}}, {"accept": None}]


@pytest.mark.parametrize(
    ("right", "ports"),
    [
        (22, {22}),
        ({"set": [22, 3002]}, {22, 3002}),
        ({"range": [80, 82]}, {80, 81, 82}),
        ({"set": [22, {"range": [80, 81]}]}, {22, 80, 81}),
        ("@named", set()),
    ],
)
def test_ports_of_an_nftables_rule(right: object, ports: set[int]) -> None:
    assert facts.nft_ports(dport(right)) == ports


def test_a_rule_about_something_else_names_no_port() -> None:
    rule = [{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}]
    assert facts.nft_ports(rule) == set()


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    facts.meminfo(text)
    facts.mounts(text)
    facts.properties(text)
    sshd.keywords(text)
    redis.redis_info(text)
    facts.usable_passwords(text)
    facts.superusers(text)
