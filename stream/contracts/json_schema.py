"""Makes the JSON Schema of a record: msgspec's, with what `means` says in `stream.wire` as descriptions.

Four things differ from what msgspec gives. An optional field of a record that pathcast writes is absent and never null,
so its schema says so. An array of numbers of one kind says `items`, which every draft understands, and not
`prefixItems`. A reference beside a description stands in `allOf`, for drafts that ignore what is beside a reference.
And there are no defaults, which nobody would see.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from stream.contracts.catalog import Contract, Way

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def json_schema(contract: Contract) -> Schema:
    """Returns the schema as a document of its own, with what it refers to in `$defs`."""
    structs = components(contract, "#/$defs/{name}")
    root = structs.pop(contract.type.__name__)
    return {
        "$schema": DIALECT,
        "$id": f"urn:pathcast:{contract.schema_name}",
        **root,
        **({"$defs": structs} if structs else {}),
    }


def components(contract: Contract, template: str) -> dict[str, Schema]:
    """Returns the schema of each struct in the record by the struct's name, the record's own first. References to
    another are made by `template`, which has {name} in it."""
    _, structs = msgspec.json.schema_components([contract.type], ref_template=template)
    return {name: _finish_struct(contract, schema) for name, schema in structs.items()}


def dump_schema(schema: Schema) -> str:
    """Returns the schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _finish_struct(contract: Contract, schema: Schema) -> Schema:
    required = schema["required"]
    properties = {
        contract.prefix + name: _finish_field(field, may_be_null=contract.way is Way.IN or name in required)
        for name, field in schema["properties"].items()
    }
    first_paragraph = " ".join(schema["description"].partition("\n\n")[0].split())
    required = [contract.prefix + name for name in required]
    return {**schema, "description": first_paragraph, "properties": properties, "required": required}


def _finish_field(schema: Schema, *, may_be_null: bool) -> Schema:
    """Returns a field's schema, its description first. A field that never is null loses that alternative."""
    field = _rewrite(schema)
    kinds = [one for one in field.pop("anyOf", ()) if may_be_null or one != {"type": "null"}]
    description = field.pop("description", None) or (kinds[0].pop("description") if kinds else field["enum"][0])
    if kinds:
        field |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if "enum" in field and not may_be_null:
        field["enum"] = [one for one in field["enum"] if one is not None]
    return {"description": description, **({"allOf": [field]} if "$ref" in field else field)}


def _rewrite(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_rewrite(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rewritten = {name: _rewrite(one) for name, one in schema.items() if name != "default"}
    if "prefixItems" in rewritten:
        kinds = rewritten.pop("prefixItems")
        distinct = [one for at, one in enumerate(kinds) if one not in kinds[:at]]
        rewritten["items"] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    return rewritten
