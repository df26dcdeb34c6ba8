"""The reference of both kinds, as Markdown: every field with its type, default, rules and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator

from . import API_VERSION
from .fields import RULES
from .peer import Peer
from .schema import Schema, structural
from .tunnel import Tunnel

_HEAD = f"""\
<!-- Made from operator/handfast_operator/resources: change that, then run `make generate`. -->

# Reference: `{API_VERSION}`

A Tunnel and its Peers live in one namespace. What is refused is refused by the API server, with the sentence
that stands under *Refused*.
"""


def reference() -> str:
    parts = [_HEAD]
    for kind in (Tunnel, Peer):
        schema = structural(kind)
        parts.append(f"\n## {kind.__name__}\n\n{schema['description']}\n")
        parts += _refusals("metadata.name", schema)
        for name in ("spec", "status"):
            part = schema["properties"][name]
            parts.append(
                f"\n### {kind.__name__} {name}\n\n| field | type | default | meaning |\n|---|---|---|---|\n"
            )
            parts += _rows(part, "", part.get("required", []), with_defaults=name == "spec")
            if name == "spec":
                parts += _all_refusals(part)
    return "".join(parts)


def _rows(schema: Schema, prefix: str, required: list[str], *, with_defaults: bool) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = _default(field, name in required) if with_defaults else ""
        meaning = field.get("description", "").replace("|", "\\|")
        yield f"| `{path}` | {_type(field)} | {default} | {meaning} |\n"
        inner = field.get("items", field)
        separator = "[]." if "items" in field else "."
        yield from _rows(inner, path + separator, inner.get("required", []), with_defaults=with_defaults)


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        return "number" if high is None else f"number, {low} to {high}"
    return {"object": "object", "boolean": "true or false"}.get(field["type"], str(field["type"]))


def _default(field: Schema, required: bool) -> str:
    if required:
        return "*required*"
    if field["type"] == "object" or "default" not in field:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _all_refusals(schema: Schema, path: str = "spec") -> Iterator[str]:
    rows = [(where, message) for where, message in _messages(schema, path)]
    if rows:
        yield "\n*Refused:*\n\n"
        yield from (f"- `{where}`: {message}\n" for where, message in rows)


def _refusals(path: str, schema: Schema) -> Iterator[str]:
    messages = [rule["message"] for rule in schema.get(RULES, [])]
    if messages:
        yield "\n*Refused:*\n\n"
        yield from (f"- `{path}`: {message}\n" for message in messages)


def _messages(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get(RULES, []):
        yield path, rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _messages(field, f"{path}.{name}")
    if "items" in schema:
        yield from _messages(schema["items"], f"{path}[]")
