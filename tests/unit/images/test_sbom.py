"""Bills of materials, judged by the formats' own libraries, and the words for licences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing  # type: ignore[import-untyped]
from packageurl import PackageURL

from rave_cli.images import licences, sbom
from rave_cli.images import lock as locks
from rave_cli.images.lock import File, Lock
from tests.unit.images.test_lock import lock_values

LOCKS = sorted((Path(__file__).parents[3] / "infra/debian/locks").glob("*.json"))


def with_set(lock: Lock) -> Lock:
    """Return a lock with sets, in which names meet and licences are of every kind."""
    files = [
        File(kind=kind, service=service, name=name, version="1.0+x", file=f"{number}",
             sha256=f"{number:064x}", licence=licence, needed_by=needed_by)
        for number, (kind, service, name, licence, needed_by) in enumerate((
            ("wheel", "wiki", "bash", "MIT", ()),
            ("wheel", "wiki", "paper", "Apache-2.0 OR BSD-3-Clause", ("bash",)),
            ("wheel", "board", "paper", "GPL-2+ and Own", ()),
            ("npm", "board", "@a/tool", "SEE LICENSE IN LICENSE.md", ()),
        ))
    ]  # fmt: skip
    return lock.model_copy(update={"files": (*lock.files, *files)})


def documents(lock: Lock) -> tuple[Any, Any]:
    data = locks.render(lock)
    return json.loads(sbom.cyclonedx(lock, data, "demo")), json.loads(sbom.spdx(lock, data, "demo"))


def judge(lock: Lock) -> None:
    """Put both documents before the libraries of their formats."""
    # Compiles grammars for seconds: for whoever runs these tests, not for all who only list them.
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    first, second = documents(lock)
    fault = JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(first))
    assert fault is None, fault
    bom = Bom.from_json(first)  # type: ignore[attr-defined]
    assert len(bom.components) == len(lock.packages) + len(lock.files)
    document = JsonLikeDictParser().parse(second)  # type: ignore[no-untyped-call]
    assert validate_full_spdx_document(document) == []


@pytest.mark.parametrize("place", LOCKS, ids=lambda place: place.stem)
def test_the_formats_own_libraries_find_no_fault_with_the_bill_of_a_committed_lock(
    place: Path,
) -> None:
    judge(locks.parse(place.read_bytes(), place))


def test_nor_with_one_of_sets(locked: Lock) -> None:
    judge(with_set(locked))


def test_a_bill_says_of_which_lock_it_is_and_is_always_the_same(locked: Lock) -> None:
    data = locks.render(locked)
    for make in sbom.FORMATS.values():
        bill = make(locked, data, "demo")
        assert locks.digest(data).encode() in bill
        assert bill == make(locked, data, "demo")
        assert bill != make(locked, data + b" ", "demo")


def test_every_component_has_its_digest_its_address_and_its_licence(locked: Lock) -> None:
    bill, _ = documents(with_set(locked))
    found = {component["bom-ref"]: component for component in bill["components"]}
    assert (
        found["deb/bash"]["purl"]
        == "pkg:deb/debian/bash@1%3A5.2-1?arch=amd64&distro=debian-bookworm"
    )
    assert found["wheel/wiki/bash"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert found["npm/board/@a/tool"]["purl"] == "pkg:npm/%40a/tool@1.0%2Bx"
    assert found["program/sops"]["purl"] == "pkg:generic/sops@3.11.0"
    assert found["deb/bash"]["hashes"] == [{"alg": "SHA-256", "content": locked.packages[0].sha256}]
    for component in found.values():
        assert PackageURL.from_string(component["purl"]).version == component["version"]


def test_who_needs_whom_stays_within_a_set(locked: Lock) -> None:
    bill, other = documents(with_set(locked))
    needs = {edge["ref"]: edge["dependsOn"] for edge in bill["dependencies"]}
    assert needs.pop("image")
    assert needs == {"wheel/wiki/bash": ["wheel/wiki/paper"]}
    edges = [edge for edge in other["relationships"] if edge["relationshipType"] == "DEPENDS_ON"]
    assert len(edges) == 1


def test_what_the_build_alone_uses_is_not_called_a_part_of_the_image(locked: Lock) -> None:
    tcc = locked.packages[0].model_copy(update={"name": "tcc", "role": "tool"})
    bill, other = documents(locked.model_copy(update={"packages": (*locked.packages, tcc)}))
    scopes = {component["name"]: component["scope"] for component in bill["components"]}
    assert scopes == {"bash": "required", "tcc": "excluded", "sops": "required"}
    (edge,) = (e for e in other["relationships"] if e["relationshipType"] == "BUILD_TOOL_OF")
    assert edge["spdxElementId"].endswith("tcc") or "tcc" in edge["spdxElementId"]


@given(lock_values)
def test_any_lock_has_a_bill_in_which_names_are_unique(lock: Lock) -> None:
    bill, other = documents(lock)
    refs = [component["bom-ref"] for component in bill["components"]]
    assert len(refs) == len(lock.packages) + len(lock.files)
    assert len(other["packages"]) == len(refs) + 1


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Expat", "MIT"),
        ("MIT License", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("Apache-2.0 OR BSD-3-Clause", "Apache-2.0 OR BSD-3-Clause"),
        ("GPL-2+ and BSD-3-clause", "GPL-2.0-or-later AND BSD-3-Clause"),
        ("GPL-2+ or Artistic", None),
        ("MIT and ISC or Zlib", None),
        ("common-licenses/GPL-2", None),
        ("GPL-9+", None),
        ("BSD", None),
    ],
)
def test_only_what_is_certain_has_an_identifier(name: str, found: str | None) -> None:
    assert licences.identifier(name) == found


@given(st.text(max_size=60))
def test_an_identifier_is_one_of_spdx(text: str) -> None:
    for name in licences.named(text):
        if found := licences.identifier(name):
            assert get_spdx_licensing().validate(found).errors == []


def test_every_identifier_that_we_give_is_one_of_spdx() -> None:
    for name in (*licences._IDENTIFIERS, *(f"{name}+" for name in ("GPL-1", "GFDL-1.3"))):
        found = licences.identifier(name)
        assert found is not None
        assert get_spdx_licensing().validate(found).errors == []
