"""`.sops.yaml`: which rule counts, who the recipients are, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import policy

# The same in every process that collects these tests: they are part of their names.
ONE = "age1sjmtrdsfre3vm2ev4lmk820ces06hlhhkg8pduhzany2u53qsf3s3kuahf"
TWO = "age1tu00ydmn9s24sdlnuuku4f08ujuj0puydt7cfyy0k9g85f8cuv2qs5vn4g"
SOURCE = Path("/place/.sops.yaml")
FILE = Path("/place/secrets.sops.yaml")


def parse(text: str, file: Path = FILE) -> policy.SopsPolicy:
    return policy.parse(text.encode(), source=SOURCE, file=file)


POOL = [age.generate().recipient for _ in range(6)]
NAMES = st.from_regex(r"[A-Za-z0-9._+' ()\[\]-]{1,20}", fullmatch=True)


@given(
    st.lists(st.sampled_from(POOL), min_size=1, unique=True),
    NAMES.filter(lambda name: name not in {".", ".."}),
)
def test_what_is_rendered_reads_back(recipients: list[str], name: str) -> None:
    found = policy.parse(
        policy.render(recipients, name), source=SOURCE, file=SOURCE.with_name(name)
    )
    assert found.recipients == tuple(recipients)
    assert found.rule == policy.DEFAULT_RULE


def test_the_first_matching_rule_counts() -> None:
    found = parse(
        "creation_rules:\n"
        f"  - path_regex: other\n    age: {TWO}\n"
        f"  - path_regex: secrets\n    age: {ONE}\n"
        f"  - age: {TWO}\n"
    )
    assert found.recipients == (ONE,)


def test_a_rule_without_path_matches_everything() -> None:
    assert parse(f"creation_rules:\n  - age: [{ONE}, {TWO}]\n").recipients == (ONE, TWO)


def test_the_path_is_relative_to_the_policy() -> None:
    text = f"creation_rules:\n  - path_regex: ^deep/.*\\.yaml$\n    age: {ONE}\n"
    assert parse(text, SOURCE.parent / "deep/a.yaml").recipients == (ONE,)
    with pytest.raises(RaveError, match="no rule matches"):
        parse(text, SOURCE.parent / "a.yaml")


def test_the_rule_for_what_is_encrypted() -> None:
    found = parse(f"creation_rules:\n  - age: {ONE}\n    encrypted_regex: ^data$\n")
    assert found.rule == ("encrypted_regex", "^data$")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("path_regex: (?i)secrets", "differently"),
        (r"path_regex: \bsecrets\z", "differently"),
        ("path_regex: 's++'", "differently"),
        ("path_regex: '['", "path_regex"),
        ("path_regex: [a]", "path_regex is not text"),
        ("filename_regex: x", "filename_regex is not supported"),
        ("pgp: ABCD", "rave does not check pgp"),
        ("key_groups: []", "rave does not check key_groups"),
        ("age: ''", "names no age recipient"),
        ("mac_only_encrypted: true", "names no age recipient"),
        ("age: ssh-ed25519 AAAA", "ssh recipients are refused"),
        ("age: age1nonsense", "age1nonsense"),
        (f"age: '{ONE},{ONE}'", "a recipient is there twice"),
        (f"age: {ONE}\n    encrypted_regex: a\n    encrypted_suffix: b", "one of"),
        (f"age: {ONE}\n    encrypted_regex: ''", "one of"),
        ("x", "a rule is not a map"),
        (f"age: [{ONE}, {{a: b}}]", "a recipient is not text"),
        (f"age: {{a: {ONE}}}", "a recipient is not text"),
        (f"age: {ONE}\n    mac_only_encrypted: yes", "neither true nor false"),
        (f"age: {ONE}\n    mac_only_encrypted: TRUE", "neither true nor false"),
        (f"age: {ONE}\n    mac_only_encrypted: [true]", "neither true nor false"),
        (f"age: {ONE}\n    <<: {{pgp: ABCD}}", "merge keys"),
        ("age: age1pq1qqqq", "post-quantum"),
        ("age: age1yubikey1qqqq", "plugin"),
    ],
)
def test_what_is_refused(rule: str, why: str) -> None:
    with pytest.raises(RaveError) as caught:
        parse(f"creation_rules:\n  - {rule}\n")
    assert why in caught.value.message
    assert str(SOURCE) in caught.value.message
    assert caught.value.exit_code is ExitCode.SECRETS


@pytest.mark.parametrize("text", ["a: b", "creation_rules: x", "creation_rules: []", "][", ""])
def test_a_file_that_is_no_policy(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        parse(text)
    assert caught.value.exit_code is ExitCode.SECRETS


@given(st.binary(max_size=120))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    try:
        found = policy.parse(data, source=SOURCE, file=FILE)
    except RaveError:
        return
    assert found.recipients


def test_it_is_found_above_the_file(tmp_path: Path) -> None:
    (tmp_path / ".sops.yaml").write_bytes(policy.render([ONE], "x"))
    assert policy.find(tmp_path / "a/b/x") == tmp_path / ".sops.yaml"


def test_the_nearest_one_counts(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "a"):
        place.mkdir(exist_ok=True)
        (place / ".sops.yaml").write_bytes(policy.render([ONE], "x"))
    assert policy.find(tmp_path / "a/x") == tmp_path / "a/.sops.yaml"


def test_a_directory_of_that_name_is_not_passed_over(tmp_path: Path) -> None:
    """sops stops at it, too."""
    (tmp_path / ".sops.yaml").write_bytes(policy.render([ONE], "x"))
    (tmp_path / "a/.sops.yaml").mkdir(parents=True)
    with pytest.raises(RaveError, match="is not a file"):
        policy.load(tmp_path / "a/x")


def test_sops_config_names_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".sops.yaml").write_bytes(policy.render([ONE], "x"))
    named = tmp_path / "b/policy.yaml"
    named.parent.mkdir()
    named.write_text(f"creation_rules:\n  - path_regex: ^{tmp_path}/x$\n    age: {TWO}\n")
    monkeypatch.setenv("SOPS_CONFIG", str(named))
    assert policy.load(tmp_path / "x").recipients == (TWO,)
    monkeypatch.setenv("SOPS_CONFIG", str(tmp_path / "mistyped"))
    with pytest.raises(RaveError, match="SOPS_CONFIG names"):
        policy.load(tmp_path / "x")


def test_the_name_that_sops_does_not_read_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / ".sops.yml").write_bytes(policy.render([ONE], "x"))
    with pytest.raises(RaveError, match="which sops does not read") as caught:
        policy.load(tmp_path / "a/x")
    assert caught.value.hint == f"mv {tmp_path}/.sops.yml {tmp_path}/.sops.yaml"


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize("spoil", ["owner", "mode", "directory", "group"])
def test_one_that_somebody_else_may_have_written_is_refused(tmp_path: Path, spoil: str) -> None:
    source = tmp_path / ".sops.yaml"
    source.write_bytes(policy.render([ONE], "x"))
    assert policy.load(tmp_path / "x").recipients == (ONE,)
    if spoil == "owner":
        os.chown(source, 65534, 65534)
    elif spoil == "group":
        os.chown(source, -1, 65534)
        source.chmod(0o664)
    else:
        (source if spoil == "mode" else tmp_path).chmod(0o777)
    with pytest.raises(RaveError) as caught:
        policy.load(tmp_path / "x")
    assert str(source) in caught.value.message
    assert caught.value.exit_code is ExitCode.SECRETS
    assert (caught.value.hint or "").split()[-3] in {"chmod", "chown"}


def test_without_one_the_hint_is_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "find", lambda file: None)
    with pytest.raises(RaveError) as caught:
        policy.load(tmp_path / "x")
    assert caught.value.hint == "rave secrets init"
