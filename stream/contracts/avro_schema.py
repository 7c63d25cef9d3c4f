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
from stream.contracts.json_schema import Schema, meaning
from stream.contracts.meanings import STRUCTS

NAMESPACE: Final = f"pathcast.v{VERSION}"


def avro_schema(contract: Contract) -> Schema:
    """Returns the schema. Raises ValueError for a record that describes headers, which Kafka does not encode."""
    if contract.headers_only:
        raise ValueError(f"{contract.name} describes headers, which have no Avro schema")
    found: Schema = _record(inspect.type_info(contract.type), set())
    return found


def _record(struct: Any, known: set[str]) -> Any:
    name = struct.cls.__name__
    if name in known:
        return f"{NAMESPACE}.{name}"
    known.add(name)
    fields = []
    if struct.tag is not None:
        what = {"name": struct.tag_field, "type": "string", "default": struct.tag}
        fields.append({**what, "doc": meaning(struct.cls, struct.tag_field)})
    fields += [_field(struct.cls, one, known) for one in struct.fields]
    return {"type": "record", "name": name, "namespace": NAMESPACE, "doc": STRUCTS.get(name, ""), "fields": fields}


def _field(struct: type[msgspec.Struct], field: inspect.Field, known: set[str]) -> Schema:
    found = {"name": field.encode_name, "type": _type(field.type, known)}
    if field.default is not msgspec.NODEFAULT and not field.required:
        found["default"] = field.default
    return {**found, "doc": meaning(struct, field.encode_name)}


def _type(what: Any, known: set[str]) -> Any:
    if isinstance(what, inspect.Metadata):
        return _type(what.type, known)
    if isinstance(what, inspect.UnionType):
        kinds = [_type(one, known) for one in what.types if not isinstance(one, inspect.NoneType)]
        return ["null", *kinds] if what.includes_none else kinds
    if isinstance(what, inspect.StructType):
        return _record(what, known)
    if isinstance(what, inspect.TupleType):
        kinds = [_type(one, known) for one in what.item_types]
        distinct = [one for at, one in enumerate(kinds) if one not in kinds[:at]]
        return {"type": "array", "items": _number(distinct)}
    if isinstance(what, inspect.VarTupleType | inspect.ListType):
        return {"type": "array", "items": _type(what.item_type, known)}
    if isinstance(what, inspect.DictType):
        return {"type": "map", "values": _type(what.value_type, known)}
    if isinstance(what, inspect.LiteralType) and all(isinstance(one, str) for one in what.values):
        return "string"
    return _PRIMITIVES[type(what)]


def _number(kinds: list[Any]) -> Any:
    """Returns one type for all items: a double holds every integer that we write there."""
    return kinds[0] if len(kinds) == 1 else {("long", "double"): "double"}[tuple(sorted(kinds, reverse=True))]


_PRIMITIVES: Final[dict[type, str]] = {
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.AnyType: "string",
    inspect.NoneType: "null",
}
