"""Finds breaking schema changes.

    what changes                          records that pathcast writes     records that others write
    a field is removed, or renamed        breaks: subscribers miss it      breaks: it is silently ignored
    a field changes its type              breaks                           breaks, unless it only takes more
    a new field is required               breaks: older records lack it    breaks: older producers do not send it
    a required field becomes optional     breaks: subscribers rely on it   allowed
    an optional field becomes required    breaks: older records lack it    breaks
    a range, a length, a list of words    breaks, wider or narrower        breaks if it is narrower
    a new optional field                  allowed                          allowed
    a title, a description                allowed                          allowed

So a subscriber with an old schema reads new records, and one with a new schema reads what older releases left in the
log; a producer with an old schema goes on. What breaks needs a new topic and a new schema, `v2`, beside the old ones.

Apache Avro's checker compares Avro schemas. It cannot compare JSON Schemas, too: Avro has no ranges, lengths, lists of
words and headers, and takes an optional field that is gone for harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from stream.contracts.catalog import Way
from stream.contracts.json_schema import Schema

# Limits that take more as they grow, and those that take more as they fall; schemas of all values, with their step in a
# path; and what demands nothing, or is compared on its own.
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_INNER: Final = {"items": "[]", "additionalProperties": ".*"}
_ANYTHING: Final = "anything"
_OTHERS: Final = {"$schema", "$id", "$defs", "title", "description", "type", "properties", "required"}


class Break(NamedTuple):
    """A change that would break somebody."""

    where: str  # the field, as a path with dots
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def breaks(old: Schema, new: Schema, way: Way) -> list[Break]:
    """Returns what breaks between two schemas of one record, each a document of its own."""
    return list(_Comparison(old, new, way).compare("", old, new))


def avro_breaks(old: Schema, new: Schema, way: Way) -> list[Break]:
    """Returns what breaks between two Avro schemas, as Apache Avro's own rules of resolution say: who has the new one
    must read what was written with the old one, and for what pathcast writes, the other way round, too."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import make_avsc_object

    schemas = [make_avsc_object(one) for one in (old, new)]
    pairs = [("older records cannot be read", schemas[1], schemas[0])]
    if way is Way.OUT:
        pairs.append(("who has the released schema cannot read", schemas[0], schemas[1]))
    incompatible = []
    for what, reader, writer in pairs:
        checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro has no types there
        result = checker.get_compatibility(reader, writer)
        if result.compatibility is not SchemaCompatibilityType.compatible:
            where = ", ".join(sorted(result.locations)) or "."
            incompatible.append(Break(where, f"{what}: {'; '.join(sorted(result.messages))}"))
    return incompatible


class _Comparison(NamedTuple):
    """Compares schemas of two documents, which hold what these refer to."""

    old: Schema
    new: Schema
    way: Way

    def compare(self, where: str, old: Schema, new: Schema) -> Iterator[Break]:
        before, after = _alternatives(self.old, old), _alternatives(self.new, new)
        if before.keys() != after.keys() and not (self.way is Way.IN and _takes_more({*before}, {*after})):
            yield Break(where or ".", f"its type was {' or '.join(sorted(before))} and is {' or '.join(sorted(after))}")
            return
        for kind, theirs in before.items():
            ours = next(after[one] for one in (kind, "number", _ANYTHING) if one in after)
            for name in sorted({*theirs, *ours} - _OTHERS):
                values: tuple[Any, Any] = theirs.get(name), ours.get(name)
                if name in _INNER and all(isinstance(one, dict) for one in values):
                    yield from self.compare(where + _INNER[name], *values)
                elif values[0] != values[1] and not (self.way is Way.IN and _is_wider(name, *values)):
                    yield Break(where or ".", f"its {name} was {_show(values[0])} and is {_show(values[1])}")
            yield from self._properties(where, theirs, ours)

    def _properties(self, where: str, old: Schema, new: Schema) -> Iterator[Break]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in [*before, *sorted(after.keys() - before.keys())]:
            path = f"{where}.{name}".lstrip(".")
            required = name in old.get("required", ()), name in new.get("required", ())
            if name not in after:
                yield Break(path, "it was removed, or renamed")
            elif name not in before:
                if required[1]:
                    yield Break(path, "it is new and required")
            else:
                if required == (False, True):
                    yield Break(path, "it was optional and is required")
                if required == (True, False) and self.way is Way.OUT:
                    yield Break(path, "it was required and is optional")
                yield from self.compare(path, before[name], after[name])


def _alternatives(document: Schema, schema: Schema) -> dict[str, Schema]:
    """Returns the kinds of value that a schema takes, each with its own schema."""
    if "anyOf" in schema:
        rest = {name: value for name, value in schema.items() if name != "anyOf"}
        parts = [_alternatives(document, rest | part) for part in schema["anyOf"]]
        return {kind: one for part in parts for kind, one in part.items()}
    if (reference := schema.get("allOf", [schema])[0].get("$ref")) is not None:
        rest = {name: value for name, value in schema.items() if name not in ("allOf", "$ref")}
        schema = rest | document["$defs"][reference.rpartition("/")[2]]
    if "enum" in schema:
        schema = {**schema, "enum": sorted(schema["enum"])}
        kinds = {"number" if isinstance(one, int | float) else "string" for one in schema["enum"]}
        return dict.fromkeys([schema["type"]] if "type" in schema else sorted(kinds), schema)
    return {schema.get("type", _ANYTHING): schema}


def _takes_more(before: set[str], after: set[str]) -> bool:
    return _ANYTHING in after or before <= after | ({"integer"} if "number" in after else set())


def _is_wider(name: str, before: Any, after: Any) -> bool:
    if before is None or after is None:
        return after is None
    if name == "enum":
        return {*before} <= {*after}
    return bool(after >= before if name in _UPPER else after <= before if name in _LOWER else False)


def _show(value: Any) -> str:
    return "absent" if value is None else "a schema" if isinstance(value, dict) else str(value)
