"""The user's editor: which one, with which options, and how it is started."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError

# sops has one of its own; VISUAL before EDITOR is what everybody else does.
VARIABLES = ("SOPS_EDITOR", "VISUAL", "EDITOR")
_USUAL = ("sensible-editor", "vim", "vi", "nano")
_VIM = ("vim", "nvim", "gvim")
# No swap file, no backup, no undo file, no memory of registers: those may lie on a disk.
_VIM_OPTIONS = ("-n", "-i", "NONE", "--cmd", "set nobackup nowritebackup noswapfile noundofile")
_SECRET = "SOPS_AGE_KEY"  # noqa: S105 - the name of a variable that an editor has no use for


def launch(path: Path) -> None:
    """Open a file in the user's editor and wait.

    The editor is the user's own program and gets the user's whole environment: a graphical one
    finds its display in it.

    Raises:
        RaveError: HOST if there is no editor; SECRETS if it ends with an error.
    """
    words = argv()
    environment = {name: value for name, value in os.environ.items() if name != _SECRET}
    status = process.foreground([*words, path], env=environment)
    if status:
        raise RaveError(
            f"the editor {words[0]} ended with status {status}; nothing was changed",
            hint="EDITOR=nano rave secrets edit",
            exit_code=ExitCode.SECRETS,
        )


def argv() -> tuple[str, ...]:
    """Return the command of the user's editor: from VARIABLES, else the first one installed.

    Raises:
        RaveError: HOST if there is none, or the variable cannot be split into words.
    """
    variable = next((name for name in VARIABLES if os.environ.get(name, "").strip()), None)
    installed = (tool for tool in _USUAL if process.find(tool))
    words = _split(variable) if variable else [next(installed, "")]
    found = process.find(words[0])
    if found is None:
        origin = f", which {variable} names" if variable else ""
        raise RaveError(
            f"there is no editor {words[0] or 'on PATH'}{origin}",
            hint="EDITOR=/path/to/editor rave secrets edit",
            exit_code=ExitCode.HOST,
        )
    # `vi` and `editor` are links to what they really are.
    real = {Path(found).name, Path(found).resolve().name.split(".")[0]}
    return (*words, *(_VIM_OPTIONS if real & set(_VIM) else ()))


def _split(variable: str) -> list[str]:
    text = os.environ[variable]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RaveError(
            f"{variable} cannot be split into words ({error}): {text}",
            hint=f"{variable}=\"'/path with spaces/editor' --wait\" rave secrets edit",
            exit_code=ExitCode.HOST,
        ) from error
