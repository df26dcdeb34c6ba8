"""What is checked in is what the models say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from handfast_operator.resources.definitions import crds
from handfast_operator.resources.generate import generated

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", generated(), ids=str)
def test_checked_in(path: Path) -> None:
    assert (_ROOT / path).read_text() == generated()[path], "run `make generate`"


def fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, field in schema.get("properties", {}).items():
        found += fields(field, f"{path}.{name}")
    if "items" in schema:
        found += fields(schema["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_schemas_are_structural_and_bounded(crd: dict[str, Any]) -> None:
    """No references and no unions; whatever a rule looks at has a limit, or its cost would be refused."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in fields(schema):
        assert not {"$ref", "anyOf", "allOf", "oneOf"} & field.keys(), path
        assert "type" in field, path
        if field["type"] == "array" and path.startswith(".spec"):
            assert "maxItems" in field, path
        if field["type"] == "string" and path.startswith(".spec") and "x-kubernetes-validations" in field:
            assert "maxLength" in field, path


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_every_field_is_explained(crd: dict[str, Any]) -> None:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in fields(schema):
        if path not in {".apiVersion", ".kind", ".metadata"} and not path.endswith("[]"):
            assert field.get("description"), path


def test_every_rule_has_a_sentence() -> None:
    for crd in crds():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path, field in fields(schema):
            for rule in field.get("x-kubernetes-validations", []):
                assert len(rule["message"].split()) >= 3, (path, rule)


def test_the_files_are_yaml() -> None:
    for path, content in generated().items():
        if path.suffix == ".yaml":
            assert list(yaml.safe_load_all(content)), path
