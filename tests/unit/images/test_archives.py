"""Where packages come from: the address is anybody's, the trust is the lock's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import archives
from rave_cli.images.apt import Apt
from rave_cli.images.archives import Sources
from rave_cli.images.closure import Supply
from rave_cli.images.lock import Archive
from rave_cli.images.openpgp import read_keys
from tests.unit.images.conftest import ARCHIVE, KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.lock import Lock

SECURITY = Archive(
    name="debian-security", suites=("bookworm-security",),
    keys=("05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",),
)  # fmt: skip
BOTH = (ARCHIVE, SECURITY)

DEB822 = """\
# made by the installer
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/sec
Suites: trixie-security
Components: main
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/tool.gpg] https://tool.example bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb [ arch=amd64 ] http://mirror.example/debian bookworm main contrib # ours
deb http://mirror.example/sec bookworm-security main
"""


def host(tmp_path: Path, **files: str) -> Path:
    """Return an apt configuration with these files; `__` in a name stands for a dot."""
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name.replace("__", ".").replace("D_", "sources.list.d/")).write_text(text)
    return tmp_path


def uris(host: Path, sources: Sources = archives.Sources()) -> list[str]:  # noqa: B008 - frozen
    return [place.uri for place in archives.addresses(BOTH, sources, host).values()]


@pytest.mark.parametrize(
    "files",
    [{"D_debian__sources": DEB822}, {"sources__list": ONE_LINE}],
    ids=["deb822", "one line"],
)
def test_the_hosts_own_mirror_of_debian_is_asked(tmp_path: Path, files: dict[str, str]) -> None:
    found = uris(host(tmp_path, **files))
    assert found == ["http://mirror.example/debian", "http://mirror.example/sec"]


UBUNTU = "deb http://mirror.example/ubuntu noble main\ndeb http://x.example noble-security main\n"
FOREIGN = """\
deb [signed-by=/usr/share/keyrings/tool.gpg] https://tool.example bookworm main
deb http://docker.example/linux/debian bookworm stable
"""
DISABLED = DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n").replace(
    "Types: deb deb-src\n", "Types: deb-src\n"
)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sources__list": UBUNTU},
        {"sources__list": FOREIGN},
        {"D_debian__sources": DISABLED},
        {"D_debian__sources": "Types deb\n:\n\x00"},
        {"D_debian__sources__save": DEB822},
    ],
    ids=["none", "Ubuntu", "foreign", "disabled", "nonsense", "not a source"],
)
def test_a_host_without_a_mirror_of_debian_asks_debians_default(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert uris(host(tmp_path, **files)) == list(archives.DEFAULTS.values())


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        (
            "http://m.example/debian/",
            ["http://m.example/debian", "http://m.example/debian-security"],
        ),
        ("http://m.example/d http://s.example/s", ["http://m.example/d", "http://s.example/s"]),
        ("file:/srv/debian", ["file:/srv/debian", "file:/srv/debian-security"]),
    ],
)
def test_the_operators_mirror_wins(tmp_path: Path, mirror: str, expected: list[str]) -> None:
    assert uris(host(tmp_path, sources__list=ONE_LINE), Sources(mirror=mirror)) == expected


@pytest.mark.parametrize("mirror", ["mirror.example", "[trusted=yes] http://m", "/srv/debian"])
def test_what_is_no_address_is_refused(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(RaveError, match="is not the address of a package archive") as caught:
        uris(tmp_path, Sources(mirror=mirror))
    assert caught.value.exit_code == ExitCode.USAGE


def test_each_archive_is_believed_by_its_own_keys_alone(tmp_path: Path) -> None:
    keys, trusted = archives.load_keys(KEYS)
    assert trusted == ()
    places = archives.addresses(BOTH, Sources(), tmp_path)
    main, security = archives.stanzas(BOTH, places, keys).split("\n\n")
    assert "Suites: bookworm\n" in main
    assert "Suites: bookworm-security\n" in security
    for stanza, archive in ((main, ARCHIVE), (security, SECURITY)):
        block = stanza.partition("Signed-By:\n")[2]
        text = "".join(line[1:].replace(".", "", line == " .") + "\n" for line in block.split("\n"))
        assert tuple(read_keys(text.encode())) == archive.keys


def test_a_key_that_is_not_at_hand_is_named(tmp_path: Path) -> None:
    places = archives.addresses(BOTH, Sources(), tmp_path)
    with pytest.raises(RaveError, match=ARCHIVE.keys[0]) as caught:
        archives.stanzas(BOTH, places, {})
    assert caught.value.exit_code == ExitCode.HOST


def test_a_keyring_of_the_operator_counts_and_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / ARCHIVE.keys[0]).with_suffix(".asc").write_bytes(
        (KEYS / "debian-archive-bookworm-automatic.asc").read_bytes()
    )
    extra = str(KEYS / "debian-archive-bookworm-stable.asc")
    keys, trusted = archives.load_keys(own, extra)
    assert trusted == ("4D64FEC119C2029067D6E791F8D2585B8783D481",)
    assert {*trusted, *ARCHIVE.keys} <= keys.keys()
    assert Supply(own, Sources(keyring=extra)).trusted == trusted


def test_a_keyring_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.asc").write_text("<html>404</html>")
    with pytest.raises(RaveError, match="cannot be read as a keyring"):
        archives.load_keys(tmp_path)
    with pytest.raises(RaveError, match="No such file"):
        archives.load_keys(KEYS, str(tmp_path / "missing"))


def test_a_dated_archive_is_asked_for_the_locks_date(home: Path, locked: Lock) -> None:
    sources = Sources(snapshot="https://snapshot.example/archive/")
    lock = locked.model_copy(update={"resolved": "20261120T120000Z"})
    apt = Supply(KEYS, sources).snapshot(lock)
    assert isinstance(apt, Apt)
    assert "URIs: https://snapshot.example/archive/debian/20261120T120000Z\n" in apt.sources
    assert apt.aged
    assert Supply(KEYS, sources).snapshot(locked) is None
    assert Supply(KEYS, Sources()).snapshot(lock) is None


def test_a_lock_of_an_older_rave_says_that_it_names_no_archives(home: Path, locked: Lock) -> None:
    old = locked.requested.model_copy(update={"archives": ()})
    with pytest.raises(RaveError, match="made by an older rave"):
        Supply(KEYS, Sources()).apt(old)


def test_of_an_archive_that_names_packages_apt_is_told_to_take_nothing_else() -> None:
    newer = ARCHIVE.model_copy(update={"suites": ("trixie",), "only": ("pagure", "git")})
    found = archives.preferences((*BOTH, newer))
    assert found.split("\n\n") == [
        "Package: *\nPin: release n=trixie\nPin-Priority: -1",
        "Package: pagure git\nPin: release n=trixie\nPin-Priority: 500\n",
    ]
    assert archives.preferences(BOTH) == ""


@pytest.mark.parametrize("name", ["*", "a b", "git\nPin", "", "-x"])
def test_no_name_of_a_package_says_more_than_its_name(name: str) -> None:
    with pytest.raises(ValueError, match="only"):
        Archive(name="debian", suites=("trixie",), keys=("A",), only=(name,))


MAKERS = Archive(
    name="grafana", suites=("stable",), keys=("A" * 40,), only=("grafana",),
    uri="https://packages.example:8443/oss/deb/", components=("main", "beta"),
)  # fmt: skip


def test_a_makers_archive_is_where_the_record_says_and_has_a_pin_of_its_own(
    tmp_path: Path,
) -> None:
    sources = Sources(mirror="http://mirror.example/debian")
    places = archives.addresses((*BOTH, MAKERS), sources, tmp_path)
    assert places["grafana"].uri == "https://packages.example:8443/oss/deb"
    assert archives.dated((MAKERS,), "http://snapshot.example", "now") == {
        "grafana": places["grafana"]
    }
    archives.kept_apart((*BOTH, MAKERS), places)
    # Whatever it says that it is: a suite called bookworm would be the distribution's, too.
    assert archives.preferences((MAKERS,)).split("\n\n") == [
        'Package: *\nPin: origin "packages.example"\nPin-Priority: -1',
        'Package: grafana\nPin: origin "packages.example"\nPin-Priority: 500\n',
    ]


@pytest.mark.parametrize(
    "uri", ["file:/srv/apt", "http://a b/", "https://user@host/", "https://host/?q", "host/apt",
            "https://host/[trusted=yes]", "https://host/\nTrusted: yes"],
)  # fmt: skip
def test_no_address_says_more_than_where(uri: str) -> None:
    with pytest.raises(ValueError, match="uri"):
        Archive(name="a", suites=("stable",), keys=("A",), only=("git",), uri=uri)


def test_of_a_makers_archive_packages_are_named() -> None:
    with pytest.raises(ValueError, match="are named"):
        Archive(name="a", suites=("stable",), keys=("A",), uri="https://host/")
