"""`--format`: a line for each document as its reader wants it, by Python's format strings.

Only the fields of the document can be named, and their members by a dot: no attribute, no index.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

import click

from rave_cli.errors import ExitCode, RaveError
from rave_cli.views.machine import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Of a format specification (Python: Format Specification Mini-Language) what suits text as well.
_ALIGNED = re.compile(r"(?:.?[<>^])?\d*")

format_option = click.option(
    "--format", "template", metavar="TEMPLATE",
    help="A line for each, with fields of --json in braces: '{name} {state} {ports.22}'.",
)  # fmt: skip


class Template:
    """A checked template.

    Args:
        text: the template.
        fields: what may be named in it.

    Raises:
        RaveError: USAGE for a field that there is none, listing those that there are, or for
            anything else that is no template.
    """

    def __init__(self, text: str, fields: Sequence[str]) -> None:
        try:
            self._parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise _bad(text, str(error)) from error
        for _, field, spec, conversion in self._parts:
            if field is not None and field.partition(".")[0] not in fields:
                raise RaveError(
                    f"--format names {field!r}, and there is no such field",
                    hint=f"there are: {', '.join(fields)}",
                    exit_code=ExitCode.USAGE,
                )
            if conversion or "{" in (spec or ""):
                raise _bad(text, "conversions and nested fields are not understood")
        self._text = text

    def line(self, document: Mapping[str, Any]) -> str:
        """Return the line of one document; what it does not have is empty.

        Raises:
            RaveError: USAGE for a format specification that does not suit the value.
        """
        return "".join(
            literal + ("" if field is None else self._value(document, field, spec or ""))
            for literal, field, spec, _ in self._parts
        )

    def _value(self, document: Mapping[str, Any], field: str, spec: str) -> str:
        value: Any = document
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        shown = value if isinstance(value, int | float) else plain(value)
        try:
            if shown == "" and _ALIGNED.fullmatch(spec) is None:
                # There is no number to be written in that way.
                return ""
            return format(shown, spec)
        except ValueError as error:
            raise _bad(self._text, f"{field}: {error}") from error


def lines_of(
    template: str | None, fields: Sequence[str], *, as_json: bool
) -> Callable[[Mapping[str, Any]], str] | None:
    """Return what makes a line of a document, or None if no template is asked for.

    Raises:
        RaveError: USAGE as Template, or if JSON is asked for as well.
    """
    if template is None:
        return None
    if as_json:
        raise _bad(template, "--json asks for another form")
    return Template(template, fields).line


def _bad(text: str, why: str) -> RaveError:
    return RaveError(
        f"--format {text!r} cannot be used: {why}",
        hint="rave vm list --format '{name:<20} {state}'",
        exit_code=ExitCode.USAGE,
    )
