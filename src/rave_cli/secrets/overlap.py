"""Secrets of which the value before may count, too, until whoever proves himself by it has the new
one: people tell a forge, and that takes a day. Such a value has two lines, the new one first, and
the service that checks takes each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rave_cli.profiles.catalog import Secret

# What becomes of the value before: it counts no longer, it does, or it alone is taken away.
Previous = Literal["refused", "kept", "forgotten"]
MOST = 2  # values


def lines(secret: Secret, value: str) -> list[str]:
    """Return the values that count, the one in force first; of most secrets the only one."""
    return value.split("\n") if secret.several else [value]


def refuse_single(names: Iterable[str], catalog: Mapping[str, Secret]) -> None:
    """Refuse secrets of which one value counts at a time.

    Raises:
        RaveError: USAGE.
    """
    for name in names:
        if not catalog[name].several:
            able = ", ".join(one for one, secret in catalog.items() if secret.several)
            raise RaveError(
                f"of {name} one value counts at a time",
                hint=f"rave secrets rotate {name}; two may count of {able or 'none'}",
                exit_code=ExitCode.USAGE,
            )


def kept(
    values: Mapping[str, str], before: Mapping[str, str], names: Iterable[str]
) -> dict[str, str]:
    """Return values with which those before count, too."""
    old = {name: before[name].split("\n")[0] for name in names if before.get(name)}
    return {**values, **{name: f"{values[name]}\n{value}" for name, value in old.items()}}


def forgotten(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return values with which those before count no longer."""
    return {**values, **{name: values[name].split("\n")[0] for name in names if name in values}}
