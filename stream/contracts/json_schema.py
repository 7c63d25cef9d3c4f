"""Makes the JSON Schema of a record out of its struct: msgspec's, with meanings and units as descriptions.

Four things differ from what msgspec gives. An optional field of a record that pathcast writes is absent and never null,
so its schema says so. An array of numbers of one kind says `items`, which every draft understands, and not
`prefixItems`. A reference beside a description stands in `allOf`, for drafts that ignore what is beside a reference.
And there are no defaults of None, which nobody would see.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from stream.contracts.catalog import Contract, Way
from stream.contracts.meanings import FIELDS, RULES, STRUCTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def json_schema(contract: Contract) -> Schema:
    """Returns the schema as a document of its own, with what it refers to in `$defs`."""
    found = components(contract, "#/$defs/{name}")
    root = found.pop(contract.type.__name__)
    rest = {"$defs": found} if found else {}
    return {"$schema": DIALECT, "$id": f"urn:pathcast:{contract.schema_name}", **root, **rest}


def components(contract: Contract, template: str) -> dict[str, Schema]:
    """Returns the schema of each struct in the record by the struct's name, the record's own first. References to
    another are made by `template`, which has {name} in it."""
    found = _components(contract.type, template)
    return {one.__name__: _struct(contract, one, found[one.__name__]) for one in structs_of(contract.type)}


@lru_cache
def _components(of: type[msgspec.Struct], template: str) -> dict[str, Schema]:
    _, found = msgspec.json.schema_components([of], ref_template=template)
    return found


@lru_cache
def structs_of(of: type[msgspec.Struct]) -> tuple[type[msgspec.Struct], ...]:
    """Returns the struct and all those in it, the first first."""
    seen: dict[type[msgspec.Struct], None] = {}

    def walk(what: Any) -> None:
        if isinstance(what, msgspec.inspect.StructType):
            if what.cls in seen:
                return
            seen[what.cls] = None
            for field in what.fields:
                walk(field.type)
        for part in _parts(what):
            walk(part)

    walk(msgspec.inspect.type_info(of))
    return tuple(seen)


def _parts(what: Any) -> Iterator[Any]:
    for name in ("item_type", "key_type", "value_type", "type"):
        if (part := getattr(what, name, None)) is not None and isinstance(part, msgspec.inspect.Type):
            yield part
    for name in ("types", "item_types"):
        yield from getattr(what, name, ())


def meaning(struct: type[msgspec.Struct], field: str) -> str:
    """Returns the meaning of a field, by its name in the JSON, as the struct that declares it has it. Raises KeyError
    if it has none."""
    for one in struct.__mro__:
        if (found := FIELDS.get(f"{one.__name__}.{field}")) is not None:
            return found
    raise KeyError(f"{struct.__name__}.{field} has no meaning in stream/contracts/meanings.py")


def _struct(contract: Contract, struct: type[msgspec.Struct], schema: Schema) -> Schema:
    properties = {}
    for name, one in schema["properties"].items():
        found = _rewritten(one, never_null=contract.way is Way.OUT and name not in schema["required"])
        if "$ref" in found:
            found = {"allOf": [found]}
        rules = RULES.get(f"{struct.__name__}.{name}", {})
        properties[contract.prefix + name] = {"description": meaning(struct, name), **found, **rules}
    return {
        "title": struct.__name__,
        "description": STRUCTS.get(struct.__name__) or inspect.cleandoc(struct.__doc__ or "").partition("\n\n")[0],
        "type": "object",
        "properties": properties,
        "required": [contract.prefix + name for name in schema["required"]],
    }


def _rewritten(schema: Any, *, never_null: bool = False) -> Any:
    if isinstance(schema, list):
        return [_rewritten(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _rewritten(one) for name, one in schema.items() if (name, one) != ("default", None)}
    found.pop("default", None)
    if "prefixItems" in found:
        kinds = found.pop("prefixItems")
        same = all(one == kinds[0] for one in kinds)
        found["items"] = kinds[0] if same else {"anyOf": _distinct(kinds)}
    if never_null and "anyOf" in found:
        kinds = [one for one in found.pop("anyOf") if one != {"type": "null"}]
        found |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if never_null and None in found.get("enum", ()):
        found["enum"] = [one for one in found["enum"] if one is not None]
    return found


def _distinct(schemas: list[Schema]) -> list[Schema]:
    return [one for at, one in enumerate(schemas) if one not in schemas[:at]]


def text_of(schema: Schema) -> str:
    """Returns the schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
