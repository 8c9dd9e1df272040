"""An image goes to a real registry and comes back as it was, or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from rave_cli import app
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import shipping
from rave_cli.images import kept, shipped
from rave_cli.images.build import ImagePlace, existing_image
from rave_cli.images.manifest import check_image, load_image
from rave_cli.machines import leftovers
from rave_cli.registry import pushed
from rave_cli.registry.content import Content, of_bytes
from rave_cli.registry.manifest import TITLE
from rave_cli.registry.places import pushed_to
from rave_cli.transcript import RefusedError, signing_key
from rave_cli.transcript.trust import TrustedKey
from tests.transcripts import make_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.registry.manifest import Manifest
    from rave_cli.registry.repository import Repository
    from tests.registries import RealRegistry

    from .conftest import Reach

pytestmark = pytest.mark.integration


def quiet(_event: object) -> None:
    pass


def push(image: Image, repository: Repository, **more: Any) -> pushed.Pushed:
    return shipping.push(image, repository, signing_key(), transcript=None, on_event=quiet, **more)


def layers(repository: Repository, manifest: Manifest) -> list[bytes]:
    found = []
    for layer in manifest.layers:
        data = bytearray()
        repository.pull(layer, data.extend)
        found.append(bytes(data))
    return found


def rave(*words: str) -> Result:
    return CliRunner().invoke(app.cli, list(words))


def fault(done: Result) -> RaveError:
    assert isinstance(done.exception, RaveError), done
    return done.exception


def test_it_is_an_image_whose_first_layer_is_the_disk_alone(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]
) -> None:
    image = make_image(lock=True)
    repository = reach(registry.at("shape:1"))
    done = push(image, repository)
    assert str(done.reference).startswith(registry.at("shape:1@sha256:"))
    manifest, subject = repository.manifest()
    assert subject.digest == done.reference.digest
    disk, beside = layers(repository, manifest)
    with tarfile.open(fileobj=io.BytesIO(disk)) as archive:
        assert archive.getnames() == ["disk", f"disk/{image.qcow2.name}"]
        member = archive.getmember(f"disk/{image.qcow2.name}")
        assert (member.uid, member.gid, member.mode) == (107, 107, 0o444)
        file = archive.extractfile(member)
        assert file is not None
        assert file.read() == image.qcow2.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(beside)) as archive:
        names = {f"rave/{name}" for name in (*shipped.BESIDE, shipped.DESCRIPTION)}
        assert set(archive.getnames()) == {"rave", *names}
    config = bytearray()
    repository.pull(manifest.config, config.extend)
    assert json.loads(config)["rootfs"]["diff_ids"] == [layer.digest for layer in manifest.layers]


def test_the_same_image_is_the_same_digest_and_is_sent_once(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]
) -> None:
    image = make_image()
    first, second = (push(image, reach(registry.at(f"same:{tag}"))) for tag in ("a", "b"))
    assert first.reference.digest == second.reference.digest
    assert (first.sent, second.sent) == (first.total, 0)


def test_its_bill_of_materials_and_a_statement_lie_beside_it(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]
) -> None:
    repository = reach(registry.at("beside:1"))
    done = push(make_image(lock=True), repository)
    digest = done.reference.digest
    assert digest is not None
    (bill,) = repository.referrers(digest, shipped.SBOM)
    (document,) = layers(repository, repository.manifest(bill.digest)[0])
    assert json.loads(document)["bomFormat"] == "CycloneDX"
    (said,) = repository.referrers(digest, pushed.ARTIFACT)
    (envelope,) = layers(repository, repository.manifest(said.digest)[0])
    assert envelope == done.statement.read_bytes()
    vouched = pushed.read(envelope, digest, (TrustedKey(signing_key().public),))
    assert (vouched.what["kind"], vouched.what["name"]) == ("image", "demo-debian")
    assert pushed_to("image", "demo-debian") == [str(done.reference)]


def test_what_is_pulled_is_what_machines_are_made_from(
    registry: RealRegistry, make_image: Callable[..., Image], catalog: Catalog, home: Path
) -> None:
    image = make_image(lock=True)
    plain = "--plain-http"
    said = rave("image", "push", registry.at("whole:1"), "--base", "debian", plain, "--json")
    assert said.exit_code == 0, said.output
    place = ImagePlace(catalog.plan("demo", "debian").attr)
    place.manifest.unlink()
    place.out_link.unlink()
    key = str(signing_key().public_file)
    got = rave("image", "pull", json.loads(said.stdout)["reference"], plain, "--key", key)
    assert got.exit_code == 0, got.output
    found = existing_image(catalog.plan("demo", "debian"))
    assert found is not None
    check_image(found)
    assert found == load_image(place.manifest)
    assert found.qcow2.read_bytes() == image.qcow2.read_bytes()
    assert found.boot.kernel is not None
    assert found.boot.kernel.read_bytes() == b"kernel" * 1000
    assert Path(found.store_path).parent == kept.pulled()
    assert image.data is not None
    assert found.data is not None
    assert found.data.read_bytes() == image.data.read_bytes()
    assert replace(
        found, qcow2=image.qcow2, data=image.data, store_path=image.store_path, boot=image.boot,
        plan=image.plan,
    ) == image  # fmt: skip
    # Pushed on, it is the same.
    again = rave("image", "push", registry.at("whole:2"), "--base", "debian", plain, "--json")
    assert json.loads(again.stdout)["digest"] == json.loads(said.stdout)["digest"]
    assert rave("image", "sbom", "--profile", "demo").exit_code == 0


def test_what_is_there_already_is_not_pulled_again(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image], catalog: Catalog
) -> None:
    repository = reach(registry.at("twice:1"))
    push(make_image(), repository)
    first = shipping.pull(repository, catalog, None, on_event=quiet).image
    inode = first.qcow2.stat().st_ino
    second = shipping.pull(repository, catalog, None, on_event=quiet).image
    assert (second, second.qcow2.stat().st_ino) == (first, inode)
    # Unless it was altered.
    first.qcow2.chmod(0o644)
    first.qcow2.write_bytes(b"x" * first.size)
    check_image(shipping.pull(repository, catalog, None, on_event=quiet).image)


def test_nobody_is_believed_but_whom_one_trusts(
    registry: RealRegistry,
    reach: Reach,
    make_image: Callable[..., Image],
    catalog: Catalog,
    tmp_path: Path,
) -> None:
    repository = reach(registry.at("trust:1"))
    push(make_image(), repository)
    other = make_key(tmp_path / "other", seed=7)
    with pytest.raises(RefusedError, match="no key that you trust has signed") as caught:
        shipping.pull(repository, catalog, (TrustedKey(other.public),), on_event=quiet)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert list(kept.pulled().glob("*")) == []
    # Whoever may push can put nonsense beside it; that keeps nobody from what is genuine.
    _, subject = repository.manifest()
    nonsense = of_bytes(b"nonsense")
    about = pushed.artifact(subject, pushed.ARTIFACT, (nonsense.described("x/y"),), {})
    repository.attach(about, (nonsense,))
    pushed.vouch(repository, about, subject, {"kind": "image", "name": "x"}, other)
    mine = (TrustedKey(signing_key().public),)
    found = shipping.pull(repository, catalog, mine, on_event=quiet)
    assert found.vouched is not None
    assert found.vouched.signer == signing_key().fingerprint


def test_a_transcript_of_another_image_is_refused(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = make_image()
    document = tmp_path / "boot_transcript_x.json"
    for end in (".json", ".events.ndjson", ".dsse.json", ".sshsig"):
        document.with_name(f"boot_transcript_x{end}").write_text('{"image": {"sha256": "00"}}')
    repository, key = reach(registry.at("said:1")), signing_key()
    with pytest.raises(RaveError, match="no transcript of this image"):
        shipping.push(image, repository, key, transcript=document, on_event=quiet)
    document.write_text(json.dumps({"image": {"sha256": image.sha256}}))
    done = shipping.push(image, repository, key, transcript=document, on_event=quiet)
    assert done.reference.digest is not None
    (said,) = repository.referrers(done.reference.digest, shipping.TRANSCRIPT)
    manifest, _ = repository.manifest(said.digest)
    assert [layer.annotations[TITLE] for layer in manifest.layers] == [
        "boot_transcript_x.json", "boot_transcript_x.events.ndjson",
        "boot_transcript_x.dsse.json", "boot_transcript_x.sshsig",
    ]  # fmt: skip


def test_an_image_that_was_altered_is_not_pushed(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]
) -> None:
    image = make_image()
    image.qcow2.write_bytes(bytes(image.size))
    with pytest.raises(RaveError, match="altered"):
        push(image, reach(registry.at("altered:1")))


# --- what is no image of rave's ------------------------------------------------------------------


def tar(*members: tuple[str, bytes]) -> Content:
    """Return a layer as another tool writes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return of_bytes(packed.getvalue())


def changed(
    repository: Repository,
    image: Image,
    *,
    disk: Content | None = None,
    beside: Content | None = None,
    **more: Any,
) -> None:
    """Push an image of which something is another's."""
    packed = shipped.pack(image)
    (config, named), (second, _), (first, _) = packed.contents
    contents = (disk or first, beside or second)
    described = tuple(content.described(shipped.LAYER) for content in contents)
    for content, descriptor in zip((config, *contents), (named, *described), strict=True):
        repository.push(content, descriptor, quiet)
    manifest = replace(packed.manifest, layers=described, **more)
    repository.put(manifest)
    repository.tag(manifest, "1")


def test_an_artifact_of_another_kind_is_refused(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image], catalog: Catalog
) -> None:
    repository = reach(registry.at("kind:1"))
    changed(repository, make_image(), artifact_type="application/vnd.other")
    with pytest.raises(RaveError, match="it is no image of rave's"):
        shipping.pull(repository, catalog, None, on_event=quiet)


@pytest.fixture
def tricked(registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]) -> Repository:
    make_image(1000)
    return reach(registry.at("tricks:1"))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("rave/../../../escaped", b"x")], "holds what no image of rave's does"),
        ([("/etc/escaped", b"x")], "holds what no image of rave's does"),
        ([("rave/image.json", b"{}")], "is damaged"),
        ([("rave/boot.json", b"{}")], "holds no image.json"),
        ([("rave/vmlinuz", b"x"), ("rave/vmlinuz", b"y")], "holds what no image of rave's does"),
        ([("rave/image.json", b"[" * 100_000)], "is damaged"),
    ],
    ids=["up", "root", "empty", "none", "twice", "deep"],
)
def test_a_layer_of_tricks_is_refused_and_leaves_nothing(
    tricked: Repository, catalog: Catalog, members: list[tuple[str, bytes]], why: str
) -> None:
    changed(tricked, load_image(ImagePlace("demo-debian").manifest), beside=tar(*members))
    with pytest.raises(RaveError, match=why) as caught:
        shipping.pull(tricked, catalog, None, on_event=quiet)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert list(kept.pulled().iterdir()) == []


def test_a_file_that_says_to_be_larger_than_its_layer_is_refused(
    tricked: Repository, catalog: Catalog
) -> None:
    """A sparse one: unpacked, it would fill the disk with zeros."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("rave/vmlinuz")
        member.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "rave/vmlinuz",
            "GNU.sparse.realsize": str(1 << 40),
        }  # fmt: skip
        data = b"1\n0\n4\n".ljust(512, b"\0") + b"data"
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    image = load_image(ImagePlace("demo-debian").manifest)
    changed(tricked, image, beside=of_bytes(packed.getvalue()))
    with pytest.raises(RaveError, match="holds what no image of rave's does") as caught:
        shipping.pull(tricked, catalog, None, on_event=quiet)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert list(kept.pulled().iterdir()) == []


def test_a_disk_that_is_another_is_refused_as_it_comes(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image], catalog: Catalog
) -> None:
    image = make_image(5000)
    repository = reach(registry.at("disk:1"))
    genuine = b"".join(shipped.disk_layer(shipped.described(image), image.qcow2).pieces())
    for other in (
        genuine[:4096] + b"\0" + genuine[4097:],
        genuine[:1600] + b"\1" * 100 + genuine[1700:],
        genuine[:-1] + b"\1",
        genuine[:200] + b"7" + genuine[201:],
        genuine + bytes(512),
    ):
        changed(repository, image, disk=of_bytes(other))
        with pytest.raises(RaveError) as caught:
            shipping.pull(repository, catalog, None, on_event=quiet)
        assert caught.value.exit_code is ExitCode.VERIFICATION
    assert list(kept.pulled().iterdir()) == []


def test_an_index_is_no_image(
    registry: RealRegistry, reach: Reach, make_image: Callable[..., Image]
) -> None:
    repository = reach(registry.at("index:1"))
    push(make_image(1000), repository)
    # The list of what refers to it.
    tag = repository.manifest()[1].digest.replace(":", "-")
    with pytest.raises(RaveError, match="it is no manifest of an image"):
        repository.manifest(tag)


def test_what_a_killed_pull_leaves_is_a_leftover(
    registry: RealRegistry,
    reach: Reach,
    make_image: Callable[..., Image],
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = reach(registry.at("left:1"))
    push(make_image(), repository)
    image = shipping.pull(repository, catalog, None, on_event=quiet).image
    (kept.pulled() / ".pull-killed").mkdir()
    monkeypatch.setattr(leftovers, "QUIET", -1.0)
    found = leftovers.find(images=True)
    names = [one.place.name for one in found]
    assert names == [".pull-killed", "demo-debian.json"]
    assert all(map(leftovers.remove, found))
    assert not Path(image.store_path).exists()
    assert list(kept.pulled().iterdir()) == []


def test_where_there_is_no_room_nothing_is_fetched(
    registry: RealRegistry,
    reach: Reach,
    make_image: Callable[..., Image],
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = reach(registry.at("room:1"))
    push(make_image(), repository)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _place: usage._replace(free=1000))
    with pytest.raises(RaveError, match="has room for 0") as caught:
        shipping.pull(repository, catalog, None, on_event=quiet)
    assert caught.value.exit_code is ExitCode.HOST


def test_a_digest_is_no_place_to_push_to(make_image: Callable[..., Image]) -> None:
    make_image(1000)
    place = "oci://127.0.0.1:1/x@sha256:" + "0" * 64
    done = rave("image", "push", place, "--base", "debian", "--plain-http")
    assert fault(done).exit_code is ExitCode.USAGE


def test_without_an_image_there_is_nothing_to_push(home: Path) -> None:
    done = rave("image", "push", "oci://127.0.0.1:1/x", "--base", "debian", "--plain-http")
    assert fault(done).exit_code is ExitCode.HOST
    assert "rave vm build-image" in str(fault(done).hint)
