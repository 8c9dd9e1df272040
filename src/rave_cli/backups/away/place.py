"""The other place: where it is, and what it wants to see. Both are secrets of the operator's file.

backup-copy/place        sftp://USER@HOST[:PORT]/FOLDER, or s3://HOST[:PORT]/BUCKET[/FOLDER]
backup-copy/ssh-key      of SFTP: a private key (ed25519, without a passphrase)
backup-copy/host-key     of SFTP: the server's public key, which alone is accepted
backup-copy/access-key   of S3
backup-copy/secret-key   of S3
backup-copy/region       of S3, unless it is us-east-1
backup-copy/ca           of S3: certificates to trust instead of this host's
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets.own import BACKUP_COPY as GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = "place"
SFTP_WANTS = ("ssh-key", "host-key")
S3_WANTS = ("access-key", "secret-key")
S3_TAKES = ("region", "ca")
DEFAULT_REGION = "us-east-1"

# Hosts that may be asked without TLS: this one (s3+http://).
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
PORTS = {"sftp": 22, "s3": 443, "s3+http": 80}
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
FOLDER = re.compile(r"[A-Za-z0-9._~/-]{1,512}")
# Amazon S3 user guide, "Bucket naming rules".
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
WORD = re.compile(r"[!-~]{1,256}")
SEED = re.compile(r"[0-9a-f]{64}")
HOST_KEY = re.compile(
    r"(?:^|\s)(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?:\s|$)"
)


@dataclass(frozen=True)
class AwayPlace:
    """Another place that keeps a copy.

    Attributes:
        scheme: `sftp`, `s3`, or `s3+http` on this host.
        user: of SFTP.
        host: its name or address.
        port: the same.
        bucket: of S3.
        folder: of SFTP from the root, or from where a login begins if it has no slash at its
            beginning; of S3 what names begin with. Empty for none.
        shown: what the place wants to see, by the names of the secrets.
    """

    scheme: str
    user: str
    host: str
    port: int
    bucket: str
    folder: str
    shown: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Self:
        """Return the place that secrets tell, by their names without the group.

        Raises:
            RaveError: SECRETS if they tell none.
        """
        text = values.get(PLACE, "").strip()
        if not text:
            raise RaveError(
                "no other place is named that keeps a copy of the backups",
                hint=f"rave secrets edit   (add {GROUP}: place: sftp://USER@HOST/FOLDER)",
                exit_code=ExitCode.SECRETS,
            )
        found = cls._parsed(text)
        wanted = SFTP_WANTS if found.scheme == "sftp" else (*S3_WANTS, *S3_TAKES)
        shown = {name: values[name].strip() for name in wanted if values.get(name, "").strip()}
        for name in SFTP_WANTS if found.scheme == "sftp" else S3_WANTS:
            if name not in shown:
                raise _unusable(name, f"is missing, which {found.scheme}:// wants")
        made = cls(
            found.scheme, found.user, found.host, found.port, found.bucket, found.folder, shown
        )
        made.check()
        return made

    @classmethod
    def _parsed(cls, text: str) -> Self:
        try:
            url = urlsplit(text)
            host, port = url.hostname or "", url.port or PORTS.get(url.scheme, 0)
        except ValueError as error:
            raise _unusable(PLACE, f"is no address: {error}") from error
        scheme, user, path = url.scheme, url.username or "", url.path
        if scheme not in PORTS:
            raise _unusable(PLACE, "begins with neither sftp:// nor s3://")
        if url.query or url.fragment or url.password is not None or not host:
            raise _unusable(PLACE, "is not of the form sftp://USER@HOST/FOLDER or s3://HOST/BUCKET")
        folder = path.strip("/")
        if folder and (not FOLDER.fullmatch(folder) or ".." in folder.split("/")):
            raise _unusable(PLACE, "names a folder with characters that are not accepted")
        if scheme == "sftp":
            return cls(scheme, _user(user), host, port, "", _below(folder), {})
        if user:
            raise _unusable(PLACE, "names a user, which S3 does not have")
        if scheme == "s3+http" and host not in LOOPBACK:
            raise _unusable(PLACE, "is not on this host, and is asked without TLS: s3://…")
        bucket, _, folder = folder.partition("/")
        if not BUCKET.fullmatch(bucket):
            raise _unusable(PLACE, "names no bucket: s3://HOST/BUCKET")
        return cls(scheme, "", host, port, bucket, folder, {})

    def __str__(self) -> str:
        """The address, which has no secret in it."""
        at = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        if self.scheme == "sftp":
            path = self.folder if self.folder.startswith("/") else f"/~/{self.folder}"
        else:
            path = "/" + "/".join(filter(None, (self.bucket, self.folder)))
        return f"{self.scheme}://{at}{host}{port}{path}"

    def trusting(self, ca: str) -> Self:
        """Return the place with certificates to trust (PEM) instead of this host's.

        Raises:
            RaveError: USAGE if it shows a host key and no certificate.
        """
        if self.scheme != "s3":
            raise RaveError(
                f"{self} shows no certificate: --ca is for s3://",
                hint="rave backup fetch, without --ca",
                exit_code=ExitCode.USAGE,
            )
        return replace(self, shown={**self.shown, "ca": ca})

    def check(self) -> None:
        """Refuse what no place could be shown.

        Raises:
            RaveError: SECRETS.
        """
        if self.scheme == "sftp":
            self.seed()
            self.host_key()
            return
        for name in (*S3_WANTS, "region"):
            if name in self.shown and not WORD.fullmatch(self.shown[name]):
                raise _unusable(name, "is not one word")

    def seed(self) -> bytes:
        """Return the 32 bytes that the key of SFTP is: so few can be typed from paper.

        Raises:
            RaveError: SECRETS if it is none that is accepted.
        """
        text = self.shown["ssh-key"]
        if SEED.fullmatch(text):
            return bytes.fromhex(text)
        try:
            key = serialization.load_ssh_private_key(f"{text}\n".encode(), None)
        except (ValueError, TypeError, binascii.Error) as error:
            raise _unusable("ssh-key", f"is no private key without a passphrase: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable("ssh-key", "is of another kind than ed25519: ssh-keygen -t ed25519")
        return key.private_bytes_raw()

    def host_key(self) -> tuple[str, bytes]:
        """Return the server's key: its kind, and what it is.

        Raises:
            RaveError: SECRETS if it is none.
        """
        found = HOST_KEY.search(self.shown["host-key"])
        why = "is no public key, such as a line of ssh-keyscan -t ed25519 HOST"
        if found is None:
            raise _unusable("host-key", why)
        try:
            blob = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            raise _unusable("host-key", why) from None
        if found[1].encode() != blob[4 : 4 + int.from_bytes(blob[:4], "big")]:
            raise _unusable("host-key", why)
        return found[1], blob

    @property
    def region(self) -> str:
        """Region of S3."""
        return self.shown.get("region", DEFAULT_REGION)

    def told(self) -> tuple[str, ...]:
        """Return the place with what it wants to see as lines, for paper: `name=value`."""
        shown = dict(self.shown)
        if self.scheme == "sftp":
            kind, blob = self.host_key()
            shown = {"ssh-key": self.seed().hex()}
            shown["host-key"] = f"{kind} {base64.b64encode(blob).decode()}"
        # Certificates do not belong on a page that is typed.
        shown.pop("ca", None)
        return tuple(f"{name}={value}" for name, value in ({PLACE: str(self)} | shown).items())


def _user(name: str) -> str:
    if not USER.fullmatch(name):
        raise _unusable(PLACE, "names no user: sftp://USER@HOST/FOLDER")
    return name


def _below(folder: str) -> str:
    """Return a folder as SFTP takes it: what is below `~` is below where a login begins."""
    if not folder:
        raise _unusable(PLACE, "names no folder: sftp://USER@HOST/FOLDER")
    return folder[2:] if folder.startswith("~/") else f"/{folder}"


def of_secrets(values: Mapping[str, str]) -> AwayPlace:
    """Return the place that the operator's secrets tell, by their whole names.

    Raises:
        RaveError: SECRETS if they tell none.
    """
    group = f"{GROUP}/"
    return AwayPlace.of(
        {
            name.removeprefix(group): value
            for name, value in values.items()
            if name.startswith(group)
        }
    )


def of_lines(lines: list[str]) -> AwayPlace:
    """Return the place that lines from paper tell (`told`); others are passed over.

    Raises:
        RaveError: SECRETS if they tell none.
    """
    pairs = (line.partition("=") for line in lines)
    return AwayPlace.of({name.strip(): value.strip() for name, is_pair, value in pairs if is_pair})


def _unusable(name: str, why: str) -> RaveError:
    return RaveError(
        f"the secret {GROUP}/{name} {why}", hint="rave secrets edit", exit_code=ExitCode.SECRETS
    )
