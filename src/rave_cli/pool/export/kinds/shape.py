"""What every kind is made of: fields that are named, and no other; names, labels, selectors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

# RFC 1123 labels, and what names of objects are made of.
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)
]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(m|Ki|Mi|Gi)?$")]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
Labels = dict[str, str]


class Shape(BaseModel):
    """Part of an object: its fields, and no other. What is None is left out."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Metadata(Shape):
    """What an object is called."""

    name: Name
    namespace: Name | None = None
    labels: Labels | None = None


class LabelSelector(Shape):
    """Objects by their labels."""

    match_labels: Labels


def document(shape: Shape) -> dict[str, Any]:
    """Return an object as its file has it."""
    return shape.model_dump(mode="json", by_alias=True, exclude_none=True)
