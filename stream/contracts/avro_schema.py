"""Makes the Avro schema of a record out of its struct. A record of it has the same fields as the JSON.

JSON                        Avro
integer, number             long, double
text, one of several words  string: a word that is new must not break who reads with an older schema
array                       array, also where its length is fixed (the doc says what is where)
object with free names      map; of numbers by partition, the names are the partitions
anything                    string, which holds the JSON of it
optional                    a union with null, which comes first and is the default
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import inspect

from stream.contracts.catalog import VERSION, Contract
from stream.contracts.json_schema import Schema, components

NAMESPACE: Final = f"pathcast.v{VERSION}"
_PRIMITIVES: Final[dict[type, str]] = {
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.AnyType: "string",
    inspect.NoneType: "null",
}


def avro_schema(contract: Contract) -> Schema:
    """Returns the schema. Raises ValueError for a record that describes headers, which Kafka does not encode."""
    if contract.headers_only:
        raise ValueError(f"{contract.name} describes headers, which have no Avro schema")
    schema: Schema = _Maker(contract).make_type(inspect.type_info(contract.type))
    return schema


class _Maker:
    """Makes the types of one schema, which describes each struct once and names it from then on."""

    def __init__(self, contract: Contract) -> None:
        self._structs = components(contract, "{name}")
        self._known: set[str] = set()

    def make_type(self, kind: Any) -> Any:
        if isinstance(kind, inspect.Metadata):
            return self.make_type(kind.type)
        if isinstance(kind, inspect.UnionType):
            kinds = [self.make_type(one) for one in kind.types if not isinstance(one, inspect.NoneType)]
            return ["null", *kinds] if kind.includes_none else kinds
        if isinstance(kind, inspect.StructType):
            return self._make_record(kind)
        if isinstance(kind, inspect.TupleType):
            kinds = [self.make_type(one) for one in kind.item_types]
            # A double holds every integer that we write there.
            return {"type": "array", "items": "double" if {*kinds} == {"long", "double"} else kinds[0]}
        if isinstance(kind, inspect.VarTupleType):
            return {"type": "array", "items": self.make_type(kind.item_type)}
        if isinstance(kind, inspect.DictType):
            return {"type": "map", "values": self.make_type(kind.value_type)}
        if isinstance(kind, inspect.LiteralType):
            return "string"
        return _PRIMITIVES[type(kind)]

    def _make_record(self, struct: inspect.StructType) -> Any:
        name = struct.cls.__name__
        if name in self._known:
            return f"{NAMESPACE}.{name}"
        self._known.add(name)
        schema = self._structs[name]
        docs = {field: one["description"] for field, one in schema["properties"].items()}
        fields: list[Schema] = []
        if struct.tag_field is not None:
            tag = {"name": struct.tag_field, "type": "string", "default": struct.tag}
            fields.append({**tag, "doc": docs[struct.tag_field]})
        for field in struct.fields:
            default = {} if field.required or field.default is msgspec.NODEFAULT else {"default": field.default}
            made = {"name": field.encode_name, "type": self.make_type(field.type), **default}
            fields.append({**made, "doc": docs[field.encode_name]})
        return {"type": "record", "name": name, "namespace": NAMESPACE, "doc": schema["description"], "fields": fields}
