"""From a model to the structural OpenAPI schema that a CRD needs: no references, no unions, nulls as
`nullable`."""

from __future__ import annotations

from typing import Any

from .fields import RULES, Model

Schema = dict[str, Any]
_DROPPED = {"title", "$defs", "additionalProperties"}


def structural(model: type[Model]) -> Schema:
    whole = model.model_json_schema(by_alias=True)
    return _converted(whole, whole.get("$defs", {}))


def _converted(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    made: Schema = {name: value for name, value in node.items() if name not in _DROPPED}
    if made.get("default", ...) is None:
        del made["default"]
    if "description" in made:
        made["description"] = " ".join(made["description"].split())
    if "properties" in node:
        made["properties"] = {
            name: _optional(_converted(value, definitions), name in node.get("required", []))
            for name, value in node["properties"].items()
        }
    elif isinstance(values := node.get("additionalProperties"), dict):
        made["additionalProperties"] = _converted(values, definitions)
    if "items" in node:
        made["items"] = _converted(node["items"], definitions)
    if made.get("type") == "integer":
        made["format"] = "int64"
    return made


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`node` with what it refers to, and with what may also be null marked so."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return _resolved(_merged(target, {k: v for k, v in node.items() if k != "$ref"}), definitions)
    if "anyOf" in node:
        (choice,) = (each for each in node["anyOf"] if each.get("type") != "null")
        outer = {name: value for name, value in node.items() if name != "anyOf"}
        return _resolved(_merged(choice, {**outer, "nullable": True}), definitions)
    return node


def _merged(inner: Schema, outer: Schema) -> Schema:
    both = {**inner, **outer}
    if RULES in inner and RULES in outer:
        both[RULES] = [*inner[RULES], *outer[RULES]]
    return both


def _optional(node: Schema, required: bool) -> Schema:
    """Objects that may be left out are there all the same, with the defaults of all that is inside them.

    (Written out: the API server checks a default against the rules before it fills in others.)
    """
    if required or node.get("nullable") or node.get("type") != "object" or "required" in node:
        return node
    inside: dict[str, Schema] = node.get("properties", {})
    return {**node, "default": {name: each["default"] for name, each in inside.items() if "default" in each}}
