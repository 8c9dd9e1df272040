"""Files of objects, read and held against their kinds: strictly, and without a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from rave_cli import paths
from rave_cli.pool.export.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rave_cli.pool.export.kinds.shape import Shape

# Bytes of a file that somebody wrote or rendered.
LARGEST = 4 << 20


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML parsers take the last, people see the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[Any]()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _kind(shape: type[Shape]) -> tuple[str, str]:
    fields = shape.model_fields
    return tuple(fields[name].annotation.__args__[0] for name in ("api_version", "kind"))  # type: ignore[union-attr]


_KINDS = {_kind(shape): shape for shape in KINDS}


def faults_of_text(text: str | bytes) -> list[str]:
    """Return what is wrong with the objects in a YAML text; nothing if all of them are good."""
    try:
        documents = list(yaml.load_all(text, Loader=_StrictLoader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        return [f"it is no YAML: {' '.join(str(error).split())}"]
    found = [fault for one in documents if one is not None for fault in faults_of(one)]
    if not any(one is not None for one in documents):
        found.append("there is no object in it")
    return found


def faults_of(document: object) -> list[str]:
    """Return what is wrong with an object, each with its place."""
    if not isinstance(document, dict):
        return ["it is no object"]
    kind = (document.get("apiVersion"), document.get("kind"))
    shape = _KINDS.get(kind) if all(isinstance(word, str) for word in kind) else None  # type: ignore[arg-type]
    if shape is None:
        return [f"no pool has an object of apiVersion {kind[0]!r} and kind {kind[1]!r}"]
    try:
        shape.model_validate(document)
    except ValidationError as error:
        return [_told(str(kind[1]), dict(one)) for one in error.errors(include_url=False)]
    return []


def _told(kind: str, fault: dict[str, Any]) -> str:
    place = ".".join(str(word) for word in fault["loc"])
    why = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
    return f"{kind} {place}: {why}"


def check(files: Iterable[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Check files, and the YAML files in folders; yields each with what is wrong with it.

    Raises:
        RaveError: HOST if one cannot be read.
    """
    for path in files:
        for file in sorted(_files(path)):
            with paths.refusing(file), file.open("rb") as stream:
                data = stream.read(LARGEST + 1)
            yield file, faults_of_text(data) if len(data) <= LARGEST else ["it is too large"]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in path.rglob("*"):
        if file.suffix in (".yaml", ".yml") and file.is_file():
            yield file
