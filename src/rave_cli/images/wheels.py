"""Python wheels of the guest, by this host's pip, from the index that it is set up for.

Which wheels fit is the guest's matter: its Python and its C library are asked for, not this host's.
Of what an index says only names, versions and hashes are taken over, never an address.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.lock import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from email.message import Message
    from importlib.metadata import PackageMetadata
    from pathlib import Path

    from rave_cli.images.lock import Package

TIMEOUT = 900.0  # seconds for one set
RETRIES = 1

# The oldest C library that a platform's name can ask for (PEP 600).
OLDEST_GLIBC = 5
LONGEST_LICENCE = 64
METADATA = re.compile(r"[^/]+\.dist-info/METADATA")

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_NO_PIP = re.compile(r"No module named '?pip")
_MISMATCH = re.compile(r"DO NOT MATCH THE HASHES")
_UNREACHABLE = re.compile(
    r"Max retries exceeded|NewConnectionError|ConnectTimeout|ReadTimeout|Connection refused"
    r"|Connection aborted|Temporary failure in name resolution|Name or service not known"
    r"|ProxyError|CERTIFICATE_VERIFY_FAILED|50\d Server Error"
)
_CONFLICT = re.compile(r"ResolutionImpossible|have conflicting dependencies")
_ABSENT = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([^\s(]+)")


@dataclass(frozen=True)
class GuestPython:
    """Whom wheels must fit.

    Attributes:
        version: of the guest's Python, such as 3.11.2.
        glibc: the minor version of its C library, 36 for 2.36.
    """

    version: str
    glibc: int

    @classmethod
    def of(cls, packages: Iterable[Package]) -> GuestPython:
        """Return what a guest of these Debian packages runs.

        Raises:
            RaveError: BUILD if python3 or libc6 is not among them.
        """
        versions = {package.name: package.version for package in packages}
        try:
            python = re.match(r"\d+\.\d+\.\d+", versions["python3"])
            glibc = re.match(r"2\.(\d+)", versions["libc6"])
        except KeyError as error:
            raise RaveError(
                f"a service takes Python wheels, and the guest has no package {error.args[0]}",
                hint="add it to infra/debian/packages.nix",
                exit_code=ExitCode.BUILD,
            ) from None
        if python is None or glibc is None:
            raise RaveError(
                f"the guest's python3 {versions['python3']} or libc6 {versions['libc6']} has a"
                " version of an unknown form",
                hint="rave vm lock-closure   (renews what is locked)",
                exit_code=ExitCode.BUILD,
            )
        return cls(python[0], int(glibc[1]))

    @property
    def series(self) -> str:
        """The version as far as wheels and conditions go by it, such as 3.11."""
        return self.version.rpartition(".")[0]

    def options(self) -> tuple[str, ...]:
        """Return pip's options that ask for wheels of this guest (PEP 425, PEP 600)."""
        platforms = [
            *(f"manylinux_2_{minor}_x86_64" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)),
            "manylinux2014_x86_64",  # pip adds the two older names
        ]
        return (
            "--implementation", "cp", "--python-version", self.version,
            "--only-binary", ":all:",
            *(word for platform in platforms for word in ("--platform", platform)),
        )  # fmt: skip


def choose(
    service: str, requirements: Sequence[str], guest: GuestPython, folder: Path
) -> tuple[File, ...]:
    """Let pip choose what a set takes, sorted by name; nothing is installed.

    Args:
        service: whose set it is.
        requirements: what its record asks for.
        guest: whom the wheels must fit.
        folder: an empty directory.

    Raises:
        RaveError: HOST if pip or its index cannot be used; BUILD if no wheels fit.
    """
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != guest.series:
        # pip reads the conditions of requirements by the version that it runs on.
        raise RaveError(
            f"choosing wheels for the guest's Python {guest.series} takes a rave that runs on that"
            f" version, and this one runs on {running}",
            hint=f"make PYTHON=python{guest.series} demo   in a fresh checkout; or keep the"
            " wheels that are locked: rave vm lock-closure without --update",
            exit_code=ExitCode.HOST,
        )
    done = _pip(
        "install", "--dry-run", "--ignore-installed", "--target", str(folder / "nothing"),
        "--report", "-", *guest.options(), "-r", "/dev/stdin", lines=requirements,
    )  # fmt: skip
    if not done.ok:
        raise fault(done, f"the set of {service}")
    return read_report(done.text, service)


def download(wanted: Sequence[File], guest: GuestPython, folder: Path) -> None:
    """Let pip download locked wheels into a folder; it compares them with their hashes, too.

    Raises:
        RaveError: HOST if pip or its index cannot be used; BUILD if the index has no such file.
    """
    done = _pip(
        "download", "--no-deps", "--require-hashes", *guest.options(), "-d", str(folder),
        "-r", "/dev/stdin",
        lines=[f"{file.name}=={file.version} --hash=sha256:{file.sha256}" for file in wanted],
    )  # fmt: skip
    if not done.ok:
        what = f"{wanted[0].name} {wanted[0].version}"
        raise fault(done, what if len(wanted) == 1 else f"{len(wanted)} wheels")


def describe(chosen: Sequence[File], pool: Path) -> tuple[File, ...]:
    """Return the files of a set with what their own metadata says: licence, and who needs whom.

    Raises:
        RaveError: BUILD if one is not a wheel.
    """
    metadata = {file.name: read_metadata(pool / file.file) for file in chosen}
    needs = {name: requirements(message) for name, message in metadata.items()}
    return tuple(
        file.model_copy(
            update={
                "licence": licence(metadata[file.name]),
                "needed_by": requirers(file.name, needs),
            }
        )
        for file in chosen
    )


class _Archive(BaseModel):
    hashes: dict[str, str]


class _Download(BaseModel):
    url: str
    archive_info: _Archive


class _Metadata(BaseModel):
    name: str
    version: str


class _Install(BaseModel):
    download_info: _Download
    metadata: _Metadata


class _Report(BaseModel):
    version: str = Field(pattern="^1$")
    install: tuple[_Install, ...]


def read_report(text: str, service: str) -> tuple[File, ...]:
    """Return what pip would install, by its report (pip, "Installation Report", version 1).

    Raises:
        RaveError: HOST if it is not understood.
    """
    try:
        report = _Report.model_validate_json(text)
        found = [
            File(
                kind="wheel",
                service=service,
                name=canonical(entry.metadata.name),
                version=entry.metadata.version,
                file=_file_name(entry.download_info.url),
                sha256=entry.download_info.archive_info.hashes.get("sha256", ""),
            )
            for entry in report.install
        ]
    except ValidationError as error:
        first = error.errors()[0]
        raise RaveError(
            "pip's report of what it would install is not understood"
            f" ({'.'.join(map(str, first['loc']))}: {first['msg']})",
            hint=f"{sys.executable} -m pip install --upgrade pip   (rave reads reports of version"
            " 1, with a sha256 for each file)",
            exit_code=ExitCode.HOST,
        ) from error
    return tuple(sorted(found, key=lambda file: file.name))


def _file_name(url: str) -> str:
    """Return the file's name in an address, in the characters that the Nix store allows."""
    return re.sub(r"[^0-9A-Za-z+._?=-]", "-", unquote(urlsplit(url).path).rpartition("/")[2])


def canonical(name: str) -> str:
    """Return a distribution's name in the one form that all its spellings share (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_metadata(path: Path) -> Message:
    """Return a wheel's core metadata.

    Raises:
        RaveError: BUILD if it is not a wheel.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            (name,) = (name for name in wheel.namelist() if METADATA.fullmatch(name))
            return BytesParser().parsebytes(wheel.read(name), headersonly=True)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise RaveError(
            f"{path.name} is not a Python wheel ({error})",
            hint=f"rm {path}",
            exit_code=ExitCode.BUILD,
        ) from error


def licence(metadata: Message | PackageMetadata) -> str:
    """Return the licence that a distribution names, in its own words; empty if it names none."""
    for field in ("License-Expression", "License"):
        (text, *_) = (str(said).strip() for said in metadata.get_all(field) or [""])
        if text and text != "UNKNOWN" and len(text) <= LONGEST_LICENCE and text.isprintable():
            return text
    classifiers = [str(line) for line in metadata.get_all("Classifier") or []]
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(sorted(set(names) - {"OSI Approved"}))


def requirements(metadata: Message) -> dict[str, bool]:
    """Return the names that a distribution asks for, each with whether an extra alone does."""
    found: dict[str, bool] = {}
    for line in metadata.get_all("Requires-Dist", []):
        wanted, _, condition = str(line).partition(";")
        if match := _NAME.match(wanted):
            name, optional = canonical(match[1]), "extra" in condition
            found[name] = found.get(name, True) and optional
    return found


def requirers(name: str, needs: dict[str, dict[str, bool]]) -> tuple[str, ...]:
    """Return who asks for a distribution: those that always do, else those with an extra that does.

    Args:
        name: of the distribution.
        needs: what each distribution of the set asks for, as `requirements` tells.
    """
    always = [other for other, wanted in needs.items() if wanted.get(name) is False]
    perhaps = [other for other, wanted in needs.items() if wanted.get(name) is True]
    return tuple(sorted(set(always or perhaps) - {name}))


def fault(done: process.Completed, what: str) -> RaveError:
    """Return the error that pip's words stand for.

    Args:
        done: how pip ended.
        what: what was wanted of it.
    """
    text = f"{done.error_text}\n{done.text}"
    absent = _ABSENT.search(text)
    message, hint, code = f"{what} could not be fetched by pip", "rave doctor", ExitCode.HOST
    if _SPACE.search(text):
        message = f"no space left while fetching {what}"
        hint = "df -h ~/.cache; rave keeps locked files in $XDG_CACHE_HOME/rave/debian"
    elif _NO_PIP.search(text):
        message = f"{what} takes pip, and the Python that runs rave has none"
        hint = f"{sys.executable} -m ensurepip   (Debian: apt-get install python3-venv)"
    elif _MISMATCH.search(text):
        message = f"the index of Python's packages has other files than the lock names: {what}"
        hint = "compare the lock with git log -- infra/debian/locks before you trust the index"
        code = ExitCode.BUILD
    elif _UNREACHABLE.search(text):
        message = f"{what} could not be fetched: the index of Python's packages does not answer"
        hint = "pip config list   shows which index pip asks (PIP_INDEX_URL names another)"
    elif _CONFLICT.search(text):
        message = f"no choice of wheels gives {what}: what it asks for contradicts itself"
        hint = "see `wheels` of the service in infra/catalog/services.nix"
        code = ExitCode.BUILD
    elif absent:
        message = f"the index of Python's packages has no wheel of {absent[1]} for the guest"
        hint = (
            "rave vm lock-closure --update   chooses from what it has; PIP_INDEX_URL names another"
            " index"
        )
        code = ExitCode.BUILD
    return RaveError(message, hint=hint, exit_code=code, detail=done.tail())


def _pip(verb: str, *words: str, lines: Iterable[str]) -> process.Completed:
    """Run pip with requirements on its standard input."""
    return process.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input",
         "--retries", str(RETRIES), verb, "--quiet", *words],
        timeout=TIMEOUT, stdin="".join(f"{line}\n" for line in lines).encode(),
        env={name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    )  # fmt: skip
