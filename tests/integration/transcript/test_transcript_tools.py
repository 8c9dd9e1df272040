"""Tools that we did not write verify what rave signs, and refuse what was changed."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.docs import ROOT, blocks
from tests.transcripts import Run, make_check, make_key, make_record, make_run

from rave_cli.errors import RaveError
from rave_cli.transcript import signing_key, sshsig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.transcript import EventLog

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs/how-to/verify-a-transcript.md"
NAMES = ("document", "events", "dsse", "sshsig")


def shell(script: str, **variables: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a script with nothing but the tools the page names (and coreutils, grep, sed)."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    environment |= {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def recipe() -> list[str]:
    """Return the blocks of the how-to that need no rave, in order."""
    text = PAGE.read_text()
    without_rave = text.index("## Without rave")
    return [
        block.script
        for block in blocks(PAGE)
        if block.reason is None and text.index(block.script) > without_rave
    ]


def follow(run: Run, work: Path, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """Follow the recipe, as a shell user with the public files and the image would."""
    work.mkdir(exist_ok=True)
    return shell(
        script or "\n".join(recipe()),
        transcript=run.files.document,
        image=run.image,
        trust=run.key.path.parent,
        work=work,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def test_the_recipe_uses_no_other_tools() -> None:
    script = re.sub(r"'[^']*'|\"[^\"]*\"|#.*", "_", "\n".join(recipe()))
    starts = r"(?:^|[|;{(]|do\b|\$\()\s*(?:[A-Z]+=\w+ )?([a-z][a-z0-9-]*)(?= )"
    found = set(re.findall(starts, script, re.MULTILINE)) - {"for", "done", "do"}
    assert {"ssh-keygen", "openssl", "sha256sum"} < found
    assert found <= {
        "ssh-keygen", "openssl", "sha256sum", "sed", "grep", "printf", "cut", "tail", "tr", "wc",
        "cat", "rm", "seq", "break",
    }  # fmt: skip


def test_the_recipe_accepts_a_good_run(run: Run, tmp_path: Path) -> None:
    done = follow(run, tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert 'Good "rave-transcript@v1" signature for rave' in done.stdout
    assert done.stdout.count("Signature Verified Successfully") == 2
    assert f"{run.image}: OK" in done.stdout
    assert not (tmp_path / "work").exists()


def flip(path: Path, at: int) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", [0.1, 0.35, 0.6, 0.85])
def test_the_recipe_refuses_a_changed_byte(
    run: Run, tmp_path: Path, name: str, where: float
) -> None:
    path = getattr(run.files, name)
    flip(path, int(len(path.read_bytes()) * where))
    assert follow(run, tmp_path / "work").returncode != 0


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:3] + lines[4:],
        lambda lines: lines[:-1],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, lines[-1]],
    ],
)
def test_the_recipe_refuses_a_changed_log(
    run: Run, tmp_path: Path, change: Callable[[list[str]], list[str]]
) -> None:
    lines = run.files.events.read_text().splitlines(keepends=True)
    run.files.events.write_text("".join(change(lines)))
    assert follow(run, tmp_path / "work").returncode != 0


@pytest.mark.parametrize("junk", [b"x", b"\n", b"\0", b'{"kind":"end","data":{"count":8,'])
@pytest.mark.parametrize("where", ["before", "within", "behind"])
def test_the_recipe_refuses_junk_in_the_log(
    run: Run, tmp_path: Path, junk: bytes, where: str
) -> None:
    raw = run.files.events.read_bytes()
    at = {"before": 0, "within": raw.index(b"\n") - 5, "behind": len(raw)}[where]
    run.files.events.write_bytes(raw[:at] + junk + raw[at:])
    assert follow(run, tmp_path / "work").returncode != 0


def test_openssl_alone_sees_members_smuggled_in_behind_the_signature(
    run: Run, tmp_path: Path
) -> None:
    """A `sed` that empties any value on that line would sign off whatever else stands there."""
    raw = run.files.document.read_text()
    assert raw.endswith('"\n}\n')
    run.files.document.write_text(raw[:-4] + '", "overall_status": "SUCCESS", "z": ""\n}\n')
    (block,) = [block for block in recipe() if 'work/signed"\nsed -n' in block]
    assert follow(run, tmp_path / "work", block).returncode != 0
    run.files.document.write_text(raw)
    assert follow(run, tmp_path / "work", block).returncode == 0


def test_the_recipe_refuses_another_image_key_or_status(tmp_path: Path) -> None:
    run = make_run(tmp_path / "image")
    run.image.write_bytes(b"another image")
    assert follow(run, tmp_path / "work").returncode != 0

    run = make_run(tmp_path / "key")
    stranger = make_key(tmp_path / "stranger", seed=2)
    assert follow(Run(run.files, stranger, run.image), tmp_path / "work").returncode != 0

    checks = (*make_record().checks, make_check("a.b", "fail", phase="c"))
    run = make_run(tmp_path / "failed", record=make_record(checks=checks))
    assert follow(run, tmp_path / "work").returncode != 0


def test_the_recipe_refuses_a_key_outside_its_time(run: Run, tmp_path: Path) -> None:
    run.key.allowed_signers_file.write_text(
        f'rave valid-before="20260101Z" {sshsig.public_line(run.key.public)}\n'
    )
    assert follow(run, tmp_path / "work").returncode != 0


# --- OpenSSH


def test_our_ssh_signature_is_that_of_ssh_keygen(run: Run, tmp_path: Path) -> None:
    """Byte for byte, for the document, nothing at all, and a message of all bytes."""
    messages = [run.files.document.read_bytes(), b"", bytes(range(256)) * 300]
    for number, message in enumerate(messages):
        file = tmp_path / f"message-{number}"
        file.write_bytes(message)
        subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", run.key.path, "-n", sshsig.NAMESPACE, file],
            check=True, capture_output=True,
        )  # fmt: skip
        signed = file.with_name(f"{file.name}.sig").read_bytes()
        assert signed == sshsig.sign(run.key.private, message)
    assert run.files.sshsig is not None
    assert run.files.sshsig.read_bytes() == sshsig.sign(run.key.private, messages[0])


def test_a_key_that_ssh_keygen_made_signs(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", path], check=True
    )
    key = signing_key(path)
    run = make_run(tmp_path / "run", key=key)
    assert run.verify(key=path.with_name("key.pub")).status == "SUCCESS"


def test_ssh_keygen_and_openssl_read_the_key_that_rave_made(home: Path) -> None:
    key = signing_key()
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", key.path], check=True, capture_output=True, text=True
    ).stdout
    assert key.fingerprint in shown
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", key.path], check=True, capture_output=True, text=True
    ).stdout
    assert key.public_file.read_text().startswith(public.strip())
    subprocess.run(["openssl", "pkey", "-pubin", "-in", key.pem_file, "-noout"], check=True)


@pytest.mark.parametrize(
    "options",
    [
        "",
        'namespaces="rave-transcript@v1"',
        'namespaces="git,rave-*"',
        'namespaces="git"',
        'namespaces="!rave-transcript@v1,*"',
        "valid-after=20260101Z",
        'valid-after="20260101Z"',
        'valid-after="20260601Z"',
        'valid-before="20260601Z"',
        'valid-before="20260101Z"',
        'valid-after="20260124143102Z"',
        'valid-after="20260124143103Z"',
        'valid-before="20260124143101Z"',
        'valid-before="20260124143102Z"',
        'valid-after="20260124143102Z",valid-before="20260124143102Z"',
        'valid-after="20260124143102Z",valid-before="20260124143103Z"',
        'namespaces="rave-*",VALID-AFTER="202601241430Z"',
        'unknown="x"',
        "cert-authority",
    ],
)
def test_we_read_allowed_signers_as_ssh_keygen_does(run: Run, tmp_path: Path, options: str) -> None:
    signers = tmp_path / "signers"
    signers.write_text(f"rave,ci-* {options} {sshsig.public_line(run.key.public)}\n")
    for principal in ("rave", "ci-7", "other"):
        theirs = shell(
            'ssh-keygen -Y verify -f "$signers" -I "$who" -n rave-transcript@v1 '
            '-O verify-time=20260124143102Z -s "$sig" < "$doc"',
            signers=signers,
            who=principal,
            sig=str(run.files.sshsig),
            doc=run.files.document,
        )
        try:
            run.verify(allowed_signers=signers, principal=principal)
        except RaveError:
            assert theirs.returncode != 0, (principal, theirs.stdout)
        else:
            assert theirs.returncode == 0, (principal, theirs.stderr)


# --- a disk that is really full


def test_a_full_disk_leaves_no_transcript(tmp_path: Path) -> None:
    """On a tmpfs of 64 KiB: the log does not fit, or the log fits and the document does not."""

    def talk(events: EventLog) -> None:
        for _ in range(9):
            events.append("services", "output", {"stdout": "x" * 9000})

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        key = make_key(tmp_path / "keys")
        with pytest.raises(RaveError, match="no space left"):
            make_run(small, key=key, happen=talk)
        (log,) = (small / "artifacts").iterdir()
        assert log.name.endswith(".events.ndjson")
        assert log.read_bytes().endswith(b"\n")
        shutil.rmtree(small / "artifacts")

        record = make_record(system_info={"much": ["x" * 10_000] * 6})
        with pytest.raises(RaveError, match="no space left"):
            make_run(small, key=key, record=record)
        assert [path.name.split(".", 1)[1] for path in (small / "artifacts").iterdir()] == [
            "events.ndjson"
        ]
    finally:
        subprocess.run(["umount", small], check=True)
