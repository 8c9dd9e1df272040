"""A repository of a registry: content goes in and comes out, checked by its digest each time.

Source: OCI distribution spec 1.1: "Pushing a blob in chunks", "Pushing Manifests", "Pulling",
"Referrers" with its fallback by tag.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry import faults
from rave_cli.registry.answers import read
from rave_cli.registry.content import Content, Descriptor, digest_of, of_bytes
from rave_cli.registry.manifest import (
    INDEX,
    LARGEST,
    MANIFEST,
    Manifest,
    index_data,
    parse,
    parse_index,
)
from rave_cli.registry.session import TRIES, CutError, RegistrySession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from rave_cli.registry.reference import Reference

    OnBytes = Callable[[int], None]

# Bytes of one request of an upload.
CHUNK = 32 << 20
# How often an index is written again that another has written meanwhile.
RACES = 5


@dataclass(frozen=True)
class _Upload:
    """An upload that is under way: where it goes on, how many bytes are there, and whether the
    registry was asked for that number.
    """

    url: httpx.URL
    there: int
    resumed: bool = False


@dataclass(frozen=True)
class Repository:
    """A repository over a session."""

    session: RegistrySession
    chunk: int = CHUNK

    @property
    def reference(self) -> Reference:
        """Which one."""
        return self.session.reference

    # --- blobs -----------------------------------------------------------------------------------

    def has(self, digest: str) -> bool:
        """Return whether a blob is there.

        Raises:
            RaveError: as asking.
        """
        answer = self.session.ask("HEAD", f"blobs/{digest}")
        if answer.status_code not in (200, 404):
            raise faults.refused(self.reference, answer, answer.content)
        return answer.status_code == 200

    def push(self, content: Content, descriptor: Descriptor, on_bytes: OnBytes) -> bool:
        """Have a blob there; return whether it had to be sent.

        An upload that is cut goes on where the registry has it, if it still knows it.

        Args:
            content: the blob.
            descriptor: of it.
            on_bytes: told how many bytes are there, again and again.

        Raises:
            RaveError: as asking; NOT_READY if it is cut again and again; VERIFICATION if the
                registry has another digest for it; HOST if a file cannot be read, or was changed.
        """
        if self.has(descriptor.digest):
            return False
        upload: _Upload | None = None
        failed = furthest = 0
        while True:
            try:
                if upload is None:
                    upload = self._begin()
                if upload.there < descriptor.size > self.chunk:
                    upload = self._send(upload, content, descriptor)
                    on_bytes(upload.there)
                    # One that begins anew again and again does not go on.
                    if upload.there > furthest:
                        failed, furthest = 0, upload.there
                    continue
                self._finish(upload, content, descriptor)
            except CutError as cut:
                failed += 1
                if failed >= TRIES:
                    raise cut.fault from cut
                self.session.rest(cut, failed)
                if self.has(descriptor.digest):
                    return True
                upload = None if cut.lost else self._found(upload, descriptor.size)
            else:
                return True

    def _begin(self) -> _Upload:
        answer = self.session.ask("POST", "blobs/uploads/", headers={"Content-Length": "0"})
        if answer.status_code != 202:
            raise faults.refused(self.reference, answer, answer.content)
        return _Upload(self._location(answer), 0)

    def _send(self, upload: _Upload, content: Content, descriptor: Descriptor) -> _Upload:
        start = upload.there
        length = min(self.chunk, descriptor.size - start)
        with self.session.once(
            "PATCH",
            upload.url,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length),
                "Content-Range": f"{start}-{start + length - 1}",
            },
            body=lambda: self._whole(content.pieces(start, length), length),
        ) as answer:
            self._require(answer, 202, upload)
            return _Upload(self._location(answer), start + length, upload.resumed)

    def _finish(self, upload: _Upload, content: Content, descriptor: Descriptor) -> None:
        length = descriptor.size - upload.there
        with self.session.once(
            "PUT",
            upload.url.copy_merge_params({"digest": descriptor.digest}),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(length)},
            body=lambda: self._whole(content.pieces(upload.there, length), length),
        ) as answer:
            self._require(answer, 201, upload)
            self._agree(answer, descriptor.digest)

    def _found(self, upload: _Upload | None, size: int) -> _Upload | None:
        """Return how far an upload is; None if the registry does not say, or more than there is."""
        if upload is None:
            return None
        try:
            answer = self.session.ask("GET", upload.url)
        except RaveError as error:
            if error.exit_code is not ExitCode.NOT_READY:
                raise
            return None
        first, _, last = answer.headers.get("range", "").removeprefix("bytes=").partition("-")
        # 0-0 is said of one byte and of none.
        known = answer.status_code == 204 and first == "0" and last.isdecimal() and last != "0"
        if not known or len(last) > len(str(size)) or int(last) >= size:
            return None
        # Gitea does not say where, and counts one more: that is refused, and the upload lost.
        where = self._location(answer) if "location" in answer.headers else upload.url
        return _Upload(where, int(last) + 1, resumed=True)

    def _whole(self, pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
        """Yield what is sent, unless a file has become shorter."""
        for piece in pieces:
            length -= len(piece)
            yield piece
        if length:
            raise RaveError(
                "a file was changed while it was sent",
                hint="let nothing write to it, and push again",
                exit_code=ExitCode.HOST,
            )

    def _location(self, answer: httpx.Response) -> httpx.URL:
        return self.session.location(answer, "it does not say where an upload goes")

    def _require(self, answer: httpx.Response, status: int, upload: _Upload) -> None:
        """Refuse another status. An upload that the registry lost or counts otherwise begins anew.

        Raises:
            CutError: it may help to ask again.
            RaveError: it will not.
        """
        # All of it is read, so that the connection serves the next question, too.
        said = read(answer, LARGEST)
        if answer.status_code == status:
            return
        fault = faults.refused(self.reference, answer, said)
        miscounted = upload.resumed and answer.status_code == 400
        if answer.status_code in (404, 416) or miscounted:
            raise CutError(fault, lost=True)
        raise fault

    def _agree(self, answer: httpx.Response, digest: str) -> None:
        said = answer.headers.get("docker-content-digest")
        if said is not None and said != digest:
            raise faults.other_digest(self.reference, digest, said)

    def pull(self, descriptor: Descriptor, take: Callable[[bytes], object]) -> None:
        """Take a blob out in pieces. Only after this returned are they known to be the blob's.

        A download that is cut goes on where it was.

        Raises:
            RaveError: as asking; VERIFICATION if it is another, or larger; as `take`.
        """
        digest, size, failed = hashlib.sha256(), 0, 0
        while size < descriptor.size:
            cut = CutError(faults.silent(self.reference, "a blob ended too early"))
            try:
                for piece in self._from(descriptor, size):
                    size += len(piece)
                    failed = 0
                    if size > descriptor.size:
                        raise faults.other_digest(self.reference, descriptor.digest, "more")
                    digest.update(piece)
                    take(piece)
            except CutError as error:
                cut = error
            if size < descriptor.size:
                failed += 1
                if failed >= TRIES:
                    raise cut.fault from cut
                self.session.rest(cut, failed)
        found = f"sha256:{digest.hexdigest()}"
        if found != descriptor.digest:
            raise faults.other_digest(self.reference, descriptor.digest, found)

    def _from(self, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """Yield a blob from a place on, whatever the registry makes of that wish."""
        url = self.session.base.join(f"blobs/{descriptor.digest}")
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self.session.once("GET", url, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                raise faults.refused(self.reference, answer, read(answer, LARGEST))
            said = answer.headers.get("content-range", "")
            partial = answer.status_code == 206
            if partial and not said.startswith(f"bytes {start}-"):
                raise faults.strange(self.reference, "it sends another part than it was asked for")
            skip = 0 if partial else start
            for piece in answer.iter_raw():
                rest = piece[skip:]
                skip -= min(skip, len(piece))
                if rest:
                    yield rest

    # --- manifests -------------------------------------------------------------------------------

    def manifest(self, wanted: str | None = None) -> tuple[Manifest, Descriptor]:
        """Return a manifest and its descriptor.

        Args:
            wanted: a tag or a digest; None for that of the reference.

        Raises:
            RaveError: as asking; VERIFICATION if it is none, or has another digest.
        """
        name = wanted or self.reference.wanted
        raw = self._kept(name, f"{MANIFEST}, {INDEX}")
        if raw is None:
            raise RaveError(
                f"{self.reference.registry} has no {self.reference}",
                hint="compare the name with what the push said; some registries say this to"
                " whoever may not see it",
                exit_code=ExitCode.USAGE,
            )
        return parse(raw, str(self.reference)), Descriptor(MANIFEST, digest_of(raw), len(raw))

    def put(self, manifest: Manifest) -> Descriptor:
        """Push a manifest whose blobs are there, under its digest, and refer its subject to it.

        Raises:
            RaveError: as asking; VERIFICATION if the registry has another digest for it.
        """
        data = manifest.data()
        descriptor = Descriptor(
            MANIFEST, digest_of(data), len(data), manifest.annotations, manifest.artifact_type
        )
        answer = self._put(data, MANIFEST, descriptor.digest)
        if manifest.subject is not None and "oci-subject" not in answer.headers:
            self._refer(manifest.subject.digest, descriptor)
        return descriptor

    def tag(self, manifest: Manifest, tag: str) -> None:
        """Let a tag name a manifest from now on.

        Raises:
            RaveError: as asking; VERIFICATION if the registry has another digest for it.
        """
        self._put(manifest.data(), MANIFEST, tag)

    def attach(self, manifest: Manifest, contents: tuple[Content, ...]) -> Descriptor:
        """Push an artifact of small contents, in the order of its layers.

        Raises:
            RaveError: as asking.
        """
        self.push_empty(manifest.config)
        for content, layer in zip(contents, manifest.layers, strict=True):
            self.push(content, layer, lambda _there: None)
        return self.put(manifest)

    def push_empty(self, config: Descriptor) -> None:
        """Have the empty configuration there, which artifacts have."""
        self.push(of_bytes(b"{}"), config, lambda _there: None)

    def referrers(self, digest: str, artifact_type: str) -> list[Descriptor]:
        """Return what says something about a manifest, of one type.

        Anybody who may push can add to them: nothing is known of what they say.

        Raises:
            RaveError: as asking; VERIFICATION if the registry's list is none.
        """
        answer = self.session.ask("GET", f"referrers/{digest}", headers={"Accept": INDEX})
        if answer.status_code == 200:
            found = parse_index(answer.content, "its list of referrers")
        elif answer.status_code in (400, 404, 405):
            found = self._listed(digest)
        else:
            raise faults.refused(self.reference, answer, answer.content)
        return [entry for entry in found if entry.artifact_type == artifact_type]

    def _put(self, data: bytes, media_type: str, name: str) -> httpx.Response:
        answer = self.session.ask(
            "PUT",
            f"manifests/{name}",
            headers={"Content-Type": media_type, "Content-Length": str(len(data))},
            body=lambda: iter((data,)),
        )
        if answer.status_code != 201:
            raise faults.refused(self.reference, answer, answer.content)
        self._agree(answer, digest_of(data))
        return answer

    def _kept(self, name: str, accept: str) -> bytes | None:
        """Return the bytes of a manifest or index; None if there is none."""
        answer = self.session.ask("GET", f"manifests/{name}", headers={"Accept": accept})
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise faults.refused(self.reference, answer, answer.content)
        found = digest_of(answer.content)
        self._agree(answer, found)
        if name.startswith("sha256:") and name != found:
            raise faults.other_digest(self.reference, name, found)
        return answer.content

    def _refer(self, subject: str, descriptor: Descriptor) -> None:
        """Add to the list of referrers that a registry without their API has under a tag.

        Two who write at once may undo each other's: it is read again afterwards.
        """
        for _ in range(RACES):
            listed = self._listed(subject)
            if descriptor.digest in {entry.digest for entry in listed}:
                return
            self._put(index_data([*listed, descriptor]), INDEX, _tag(subject))
        raise faults.strange(self.reference, "it does not keep the list of referrers")

    def _listed(self, subject: str) -> list[Descriptor]:
        raw = self._kept(_tag(subject), INDEX)
        return [] if raw is None else parse_index(raw, "its list of referrers")


def _tag(digest: str) -> str:
    return digest.replace(":", "-")
