"""What people write, read as commands: never a fault, and an answer that helps."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rave_platform.domain.chat import characters, commands, grammar
from rave_platform.domain.chat.commands import (
    FORMS,
    AgentsCommand,
    ApproveCommand,
    CancelCommand,
    CreateProjectCommand,
    HelpCommand,
    RejectCommand,
    RunCommand,
    StatusCommand,
    Verb,
)
from rave_platform.domain.chat.grammar import NotUnderstood, parse, render


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!rave help", HelpCommand()),
        ("!rave help create project", HelpCommand("create project")),
        ("!rave create project hello-world", CreateProjectCommand("hello-world")),
        ('!rave create project shop "A shop"', CreateProjectCommand("shop", "A shop")),
        ("!rave status", StatusCommand()),
        ("!rave status 3F2A91C4", StatusCommand("3f2a91c4")),
        ("!rave agents", AgentsCommand()),
        ("!rave approve 3f2a91c4", ApproveCommand("3f2a91c4")),
        ("!rave reject 3f2a91c4 no tests", RejectCommand("3f2a91c4", "no tests")),
        ("!rave cancel 3f2a91c4", CancelCommand("3f2a91c4")),
        # As a telephone writes it.
        ("  !Rave Help  ", HelpCommand()),
        ("!rave create project shop “A shop”", CreateProjectCommand("shop", "A shop")),
        ('!rave run ai-engineer "team/shop" x', RunCommand("ai-engineer", "team/shop", "x")),
    ],
)
def test_a_command_is_read(text: str, command: object) -> None:
    assert parse(text) == command


def test_a_text_is_taken_as_it_is_written_over_several_lines() -> None:
    said = 'Add "hello", don\'t ask.\r\n\n  - with a test \\n'
    found = parse(f"!rave run backend-architect shop {said}")
    assert found == RunCommand(
        "backend-architect", "shop", 'Add "hello", don\'t ask.\n\n  - with a test \\n'
    )
    assert parse('!rave reject 3f2a91c4 "one" and "two"') == RejectCommand(
        "3f2a91c4", '"one" and "two"'
    )
    assert parse(r'!rave reject 3f2a91c4 "a \"b\" \\ \c"') == RejectCommand(
        "3f2a91c4", r'a "b" \ \c'
    )


@pytest.mark.parametrize("text", ["", "hello", "!ravehelp", "please !rave help", "rave help"])
def test_who_does_not_address_us_gets_no_answer(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "why", "nearest"),
    [
        ("!rave", "a command is missing", ""),
        ("!rave statsu", '"statsu" is no command', "status"),
        ("!rave create", '"create" is no command', "create project"),
        ("!rave creat projct x", '"creat" is no command', "create project"),
        ("!rave run", "AGENT is missing", ""),
        ("!rave run backend-architekt shop x", '"backend-architekt" is no agent', "backend-"),
        ("!rave run ai-engineer", "PROJECT is missing", ""),
        ("!rave run ai-engineer shop", "INSTRUCTION is missing", ""),
        ('!rave run ai-engineer shop " "', "INSTRUCTION is missing", ""),
        ('!rave run "ai-engineer shop x', "is not closed", ""),
        ("!rave run ai-engineer ../shop x", "the path of a project", ""),
        ("!rave create project a/b", '"a/b" is not a name', ""),
        ("!rave create project x.git", "is not a name", ""),
        ("!rave status 3f2a", "is not a task", ""),
        ("!rave status 3f2a91c4 now", '"now" is more than was expected', ""),
        ("!rave agents all", '"all" is more than was expected', ""),
        ("!rave help statsu", '"statsu" is no command', "status"),
        ("!rave help\u202e", "nobody sees (U+202E)", ""),
        ("!rave run ai-engineer shop \u200bx", "nobody sees (U+200B)", ""),
        ("!rave run ai-engineer shop a\0b", "nobody sees (U+0000)", ""),
        ("!rave run ai-engineer shop \U000e0041", "nobody sees (U+E0041)", ""),
        ("!rave run ai-engineer shop " + "x" * 16_001, "at most 16000 characters", ""),
        ("!rave run ai-engineer shop " + "x" * 60_000, "at most 40000 characters", ""),
        ("!rave " + "x" * 30_000, "x…", ""),
    ],
)
def test_what_is_no_command_is_answered_with_what_was_expected(
    text: str, why: str, nearest: str
) -> None:
    found = parse(text)
    assert isinstance(found, NotUnderstood)
    assert why in found.why
    assert found.nearest.startswith(nearest)
    assert bool(found.nearest) == bool(nearest)
    assert found.expected.startswith("!rave ")
    assert len(found.why) < 300


def test_letters_that_are_joined_are_written_as_people_write() -> None:
    family = "\U0001f469\u200d\U0001f4bb"
    assert parse(f"!rave reject 3f2a91c4 {family}") == RejectCommand("3f2a91c4", family)


texts = st.text(min_size=1, max_size=200).map(lambda text: text.strip()).filter(
    lambda text: text and not characters.unseen(text)
)  # fmt: skip
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
tasks = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
spoken = st.one_of(
    st.builds(HelpCommand, st.sampled_from(["", *grammar.VERBS])),
    st.builds(CreateProjectCommand, names, st.just("") | texts),
    st.builds(StatusCommand, st.just("") | tasks),
    st.just(AgentsCommand()),
    st.builds(RunCommand, st.sampled_from(grammar.AGENTS), names, texts),
    st.builds(ApproveCommand, tasks, st.just("") | texts),
    st.builds(RejectCommand, tasks, texts),
    st.builds(CancelCommand, tasks, st.just("") | texts),
)


@given(spoken)
@example(RejectCommand("3f2a91c4", '"'))
@example(RejectCommand("3f2a91c4", "\\"))
@example(RejectCommand("3f2a91c4", "“”"))
@example(RunCommand("ai-engineer", "shop", "\\" * 16_000))
def test_what_is_rendered_is_read_as_the_same(command: commands.ChatCommand) -> None:
    assert parse(render(command)) == command


words = st.sampled_from(
    ["!rave", *grammar.VERBS, *grammar.AGENTS, '"', "\\", "“", "”", "\u202e", "3f2a91c4", "x/y",
     "\n", "\ud800", "\0", "[", "%s", "{}"]
)  # fmt: skip


@given(st.lists(words | st.text(max_size=10), max_size=12).map(" ".join))
def test_nothing_that_is_written_is_a_fault(text: str) -> None:
    parse(text)
    found = parse(f"!rave {text}")
    assert found is not None
    if not isinstance(found, NotUnderstood):
        assert parse(render(found)) == found


def test_every_verb_has_a_form_whose_example_is_read() -> None:
    assert tuple(form.verb for form in FORMS) == tuple(Verb)
    for form in FORMS:
        assert isinstance(parse(form.example), form.made), form.verb
        fields = form.made.__dataclass_fields__
        assert [parameter.name for parameter in form.parameters] == list(fields)


# --- what is said


def test_plain_text_shows_what_it_says_and_calls_nobody() -> None:
    assert characters.plain("@room hi\r\n a@b @channel") == "(at)room hi\n a(at)b (at)channel"
    assert characters.plain("a\0b\u202ec\u200bd") == "a\ufffdb\ufffdc\ufffdd"
    assert characters.plain("@ 3") == "@ 3"
    long = characters.plain("x" * 100_000)
    assert (len(long), long.endswith("(cut)")) == (characters.LONGEST_ANSWER, True)


@given(st.text())
def test_whatever_is_said_is_plain(text: str) -> None:
    said = characters.plain(text)
    assert len(said) <= characters.LONGEST_ANSWER
    assert not characters.unseen(said)
    assert not characters.MENTION.search(said)
    assert characters.plain(said) == said


def test_half_a_pair_can_be_stored() -> None:
    assert characters.storable("a\ud800b") == "a?b"
