"""What a program asks of a registry of images, as far as the checks need it.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class RegistryError(Exception):
    """The registry refused, or what it gave is not what was asked for."""


class Registry:
    """Somebody at a registry of this machine."""

    def __init__(self, port: int, user: str, password: str, timeout: float) -> None:
        """`timeout`: seconds for one request."""
        self._place, self._timeout = ("127.0.0.1", port), timeout
        self._basic = b64encode(f"{user}:{password}".encode()).decode()

    def known(self) -> bool:
        """Return whether the password is taken.

        Raises:
            RegistryError: that is not said.
        """
        status, _, _ = self._ask("GET", "/v2/")
        if status not in {200, 401}:
            raise RegistryError(f"it answers {status}")
        return status == 200

    def push(self, repository: str, layer: bytes) -> str:
        """Push an image of one layer; return its digest.

        Raises:
            RegistryError: it is not taken.
        """
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {},
             "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}
        ).encode()  # fmt: skip
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": _named(config, CONFIG),
             "layers": [_named(layer, LAYER)]}
        ).encode()  # fmt: skip
        for blob in (config, layer):
            self._upload(repository, blob)
        name = digest(manifest)
        self._told(201, "PUT", f"/v2/{repository}/manifests/{name}", manifest, MANIFEST)
        return name

    def pull(self, repository: str, name: str) -> bytes:
        """Return the layer of an image, by the image's digest.

        Raises:
            RegistryError: it is not there, or is another.
        """
        manifest = self._verified(f"/v2/{repository}/manifests/{name}", name)
        (layer,) = json.loads(manifest)["layers"]
        return self._verified(f"/v2/{repository}/blobs/{layer['digest']}", layer["digest"])

    def delete(self, repository: str, name: str) -> None:
        """Delete an image by its digest; its layers go when the registry collects them.

        Raises:
            RegistryError: it is refused.
        """
        self._told(202, "DELETE", f"/v2/{repository}/manifests/{name}")

    def _upload(self, repository: str, blob: bytes) -> None:
        place = self._told(202, "POST", f"/v2/{repository}/blobs/uploads/")
        path = place.partition("://")[2].partition("/")[2] if "://" in place else place[1:]
        joint = "&" if "?" in path else "?"
        wanted = f"/{path}{joint}digest={quote(digest(blob))}"
        self._told(201, "PUT", wanted, blob, "application/octet-stream")

    def _verified(self, path: str, name: str) -> bytes:
        status, _, body = self._ask("GET", path)
        if status != 200:
            raise RegistryError(f"GET {path} is answered by {status}")
        if digest(body) != name:
            raise RegistryError(f"{path} is not what it is named after")
        return body

    def _told(self, wanted: int, method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        """Ask, and return where it leads."""
        status, place, said = self._ask(method, path, body, kind)
        if status != wanted:
            raise RegistryError(f"{method} is answered by {status}: {_reason(said)}")
        return place

    def _ask(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> tuple[int, str, bytes]:
        headers = {"Authorization": f"Basic {self._basic}", "Accept": MANIFEST}
        if kind:
            headers["Content-Type"] = kind
        connection = HTTPConnection(*self._place, timeout=self._timeout)
        try:
            connection.request(method, path, body, headers)
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read()
        except HTTPException as error:
            raise RegistryError(f"{method} has no answer") from error
        finally:
            connection.close()


def digest(content: bytes) -> str:
    """Return the name of what has this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _named(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(content), "size": len(content)}


def _reason(said: bytes) -> str:
    """Return what an answer says of an error (6.3.4), on one line."""
    try:
        return ", ".join(str(one["code"]) for one in json.loads(said)["errors"])
    except (ValueError, LookupError, TypeError):
        return "without a reason"
