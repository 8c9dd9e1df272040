"""What a registry asks to be shown is read as RFC 9110 writes it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.registry.challenge import LONGEST, Challenge, parse

tokens = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
challenges = st.builds(
    Challenge,
    tokens.map(str.lower),
    st.dictionaries(tokens.map(str.lower), values, min_size=1, max_size=4),
)


def written(challenge: Challenge) -> str:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    said = ", ".join(f"{name}={quoted(value)}" for name, value in challenge.parameters.items())
    return f"{challenge.scheme} {said}"


@settings(max_examples=50)
@given(st.lists(challenges, max_size=3))
def test_each_is_read_as_it_is_written_in_one_header_or_several(asked: list[Challenge]) -> None:
    assert parse([written(one) for one in asked]) == asked
    assert parse([", ".join(map(written, asked))]) == asked


@given(st.lists(st.text(max_size=80) | st.text('Bearer realm="\\,=; ', max_size=60), max_size=3))
def test_whatever_it_says_is_read_without_a_fault(headers: list[str]) -> None:
    for found in parse(headers):
        assert found.scheme == found.scheme.lower()


def test_what_registries_say_is_understood() -> None:
    hub = (
        'Bearer realm="https://auth.example.org/token",service="registry",scope="repository:a:pull"'
    )
    assert parse([hub]) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.example.org/token",
                "service": "registry",
                "scope": "repository:a:pull",
            },
        )
    ]
    assert parse(["Basic realm=here", "Negotiate"]) == [
        Challenge("basic", {"realm": "here"}), Challenge("negotiate"),
    ]  # fmt: skip
    assert parse(["Negotiate YWJj==, BEARER Realm = x , SERVICE=y"]) == [
        Challenge("negotiate"), Challenge("bearer", {"realm": "x", "service": "y"}),
    ]  # fmt: skip


def test_a_parameter_that_comes_twice_is_the_first() -> None:
    assert parse(['Bearer realm="https://one", realm="https://two"']) == [
        Challenge("bearer", {"realm": "https://one"})
    ]


def test_what_is_too_long_is_not_read() -> None:
    assert parse(["Bearer realm=x" + " " * LONGEST]) == []
    assert parse(["," * (LONGEST - 1)]) == []
    assert parse(['a="' + "\\" * (LONGEST - 10)]) == []
