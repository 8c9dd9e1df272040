"""References are read by distribution's grammar, and what is none is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.reference import LONGEST, Reference, parse

from .scripted import fault_of

DIGEST = "sha256:" + "0123456789abcdef" * 4

labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
addresses = st.sampled_from(["[::1]", "[fe80::2]"])
hosts = st.lists(labels, min_size=1, max_size=3).map(".".join) | addresses
registries = st.builds(
    lambda host, port: host + (f":{port}" if port else ""), hosts, st.none() | st.integers(1, 65535)
)
parts = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True)
repositories = st.lists(parts, min_size=1, max_size=3).map("/".join).filter(lambda n: len(n) < 150)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
references = st.builds(
    Reference, registries, repositories, st.none() | tags, st.none() | st.just(DIGEST)
)


@settings(max_examples=50)
@given(references)
def test_each_is_read_as_it_is_written(reference: Reference) -> None:
    assert parse(str(reference)) == reference


@given(st.text(max_size=60) | st.text("oci:/.@-_aB09[]~ %\n", max_size=40).map("oci://".__add__))
def test_whatever_is_read_is_written_the_same_and_nothing_else_than_a_fault_comes_of_the_rest(
    text: str,
) -> None:
    fault = fault_of(lambda: parse(text))
    if fault is None:
        assert str(parse(text)) == text
    else:
        assert fault.exit_code is ExitCode.USAGE
        assert "\n" not in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "registry.example.org/app",
        "https://registry.example.org/app",
        "oci://app",
        "oci://registry.example.org/",
        "oci://registry.example.org/App",
        "oci://registry.example.org/a//b",
        "oci://registry.example.org/../b",
        "oci://registry.example.org/a/./b",
        "oci://registry.example.org/a___b",
        "oci://registry.example.org/a:",
        "oci://registry.example.org/a:.b",
        "oci://registry.example.org/a:" + "b" * 129,
        "oci://registry.example.org/a@sha256:abc",
        "oci://registry.example.org/a@sha256:" + "A" * 64,
        "oci://registry.example.org/a@md5:" + "0" * 32,
        "oci://user:password@registry.example.org/a",
        "oci://registry.example.org:0/a",
        "oci://registry.example.org:65536/a",
        "oci://-example.org/a",
        "oci://example..org/a",
        "oci://[::1/a",
        "oci://[::zz]/a",
        "oci://[1:2:3]/a",
        "oci://registry.example.org/a?b",
        "oci://registry.example.org/a\n",
        "oci://registry.example.org/\u0430",
        "oci://h/" + "a" * LONGEST,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RaveError, match="names nothing in a registry"):
        parse(text)


def test_a_digest_is_asked_for_before_a_tag() -> None:
    place = "oci://h/a"
    assert parse(place).wanted == "latest"
    assert parse(f"{place}:1").wanted == "1"
    assert parse(f"{place}:1@{DIGEST}").wanted == DIGEST
    assert str(parse(f"{place}:1").at(DIGEST)) == f"{place}:1@{DIGEST}"


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True),
        ("127.8.8.8", True), ("[::1]:5000", True), ("[::1]", True),
        ("localhost.example.org", False), ("10.0.0.1:5000", False), ("128.0.0.1", False),
    ],
)  # fmt: skip
def test_this_host_is_told_from_others(registry: str, loopback: bool) -> None:
    assert parse(f"oci://{registry}/a").loopback is loopback


def test_docker_hub_answers_under_another_name() -> None:
    assert parse("oci://docker.io/library/debian").api == "registry-1.docker.io"


def test_a_long_text_is_refused_at_once() -> None:
    for text in ("oci://" + "a-" * 50_000, "oci://h/" + "a." * 50_000, "oci://" + "a" * 100_000):
        with pytest.raises(RaveError) as caught:
            parse(text)
        assert len(re.sub(r"\s", "", caught.value.message)) < 400
