"""age identities: Bech32 in both directions, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@given(st.binary(min_size=32, max_size=32))
def test_what_is_written_reads_back(private: bytes) -> None:
    identity = age._identity(private)
    assert age.parse_identity(identity.secret) == identity
    assert age.check_recipient(identity.recipient) is None
    assert age._decode("age-secret-key-", identity.secret) == private


@given(st.integers(0, 57), st.sampled_from(CHARSET), st.binary(min_size=32, max_size=32))
def test_any_changed_character_is_noticed(place: int, new: str, private: bytes) -> None:
    recipient = age._identity(private).recipient
    at = len("age1") + place
    changed = recipient[:at] + new + recipient[at + 1 :]
    assert (age.check_recipient(changed) is None) == (changed == recipient)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not start with age1"),
        ("ssh-ed25519 AAAA", "does not start with age1"),
        ("AGE1QQQQ", "does not start with age1"),
        ("age1b", "a character that Bech32 does not use"),
        ("age1qqqqqqqqqq", "checksum is wrong"),
    ],
)
def test_no_recipient(text: str, why: str) -> None:
    assert why in str(age.check_recipient(text))


def test_a_shorter_payload_with_a_right_checksum_is_refused() -> None:
    short = age._encode("age", b"\1" * 20)
    assert age.check_recipient(short) == "it has the wrong length"


def test_an_error_never_repeats_the_secret() -> None:
    secret = age.generate().secret
    broken = secret[:-1] + ("Q" if secret[-1] != "Q" else "P")
    with pytest.raises(RaveError) as caught:
        age.parse_identities(f"# comment\n{broken}\n")
    assert caught.value.exit_code is ExitCode.SECRETS
    assert broken not in str(caught.value)
    assert broken[20:40] not in repr(caught.value)


def test_secret_keys_are_upper_case_only() -> None:
    with pytest.raises(RaveError, match="does not start with"):
        age.parse_identity(age.generate().secret.lower())


def test_a_file_of_several_identities() -> None:
    pairs = [age.generate(), age.generate()]
    text = "".join(pair.file_text().decode() + "\n" for pair in pairs)
    assert age.parse_identities(text) == tuple(pairs)


def test_a_file_without_identity_is_refused() -> None:
    with pytest.raises(RaveError, match="holds no identity"):
        age.parse_identities("# nothing here\n\n")


def test_the_secret_is_not_in_the_repr() -> None:
    identity = age.generate()
    assert identity.secret not in repr(identity)


LINE = st.one_of(
    st.just("# a comment"),
    st.just(""),
    st.builds(lambda: age.generate().secret),
    st.just("AGE-PLUGIN-YUBIKEY-1QQQQ"),
    st.text(max_size=20),
    st.text("AGE-SECRET-KEY-1QPZRY", max_size=80),
)


@given(st.lists(LINE, max_size=6), st.booleans(), st.booleans())
def test_any_key_file_is_read_or_refused_by_line_without_repeating_it(
    lines: list[str], marked: bool, by_word: bool
) -> None:
    text = ("\ufeff" if marked else "") + "\n".join(lines)
    found = read(text, by_word=by_word)
    if isinstance(found, RaveError):
        assert found.exit_code is ExitCode.SECRETS
        assert re.match(r"line \d+: |this is ", found.message)
        told = f"{found.message} {found.hint}"
        assert not [line for line in lines if len(line) > 60 and line in told]
    else:
        assert len(found.identities) + len(found.unused) <= len(text.split())
        assert all(identity.secret in text for identity in found.identities)


def read(text: str, *, by_word: bool) -> age.KeyText | RaveError:
    try:
        return age.parse_keys(text, by_word=by_word)
    except RaveError as error:
        return error
