"""What of a change of a schema would break somebody.

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
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from stream.contracts.catalog import Way
from stream.contracts.json_schema import Schema

# Limits that take more as they grow, and those that take more as they fall.
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_EXACT: Final = ("pattern", "format", "uniqueItems", "propertyNames")


class Break(NamedTuple):
    """One thing that would break somebody."""

    where: str  # the field, as a path with dots
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def breaks(old: Schema, new: Schema, way: Way) -> list[Break]:
    """Returns what breaks between two schemas of one record, each a document of its own."""
    return list(_Comparison(old, new, way).of(old, new, ""))


def avro_breaks(old: Schema, new: Schema, way: Way) -> list[Break]:
    """Returns what breaks between two Avro schemas, as Apache Avro's own rules of resolution say: who has the new one
    must read what was written with the old one, and for what pathcast writes, the other way round, too."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import make_avsc_object

    schemas = [make_avsc_object(one) for one in (old, new)]
    found = []
    pairs = [("older records cannot be read", schemas[1], schemas[0])]
    if way is Way.OUT:
        pairs.append(("who has the released schema cannot read", schemas[0], schemas[1]))
    for said, reader, writer in pairs:
        checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro has no types there
        result = checker.get_compatibility(reader, writer)
        if result.compatibility is not SchemaCompatibilityType.compatible:
            where = ", ".join(sorted(result.locations)) or "."
            found.append(Break(where, f"{said}: {'; '.join(sorted(result.messages))}"))
    return found


class _Comparison:
    def __init__(self, old: Schema, new: Schema, way: Way) -> None:
        self._old, self._new, self._way = old, new, way
        self._seen: set[tuple[str, str]] = set()

    def of(self, old: Any, new: Any, where: str) -> Iterator[Break]:
        pair = (str(_reference(old)), str(_reference(new)))
        if pair != ("None", "None"):
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        yield from self._kinds(old, new, where)
        yield from self._limits(old, new, where)
        yield from self._properties(old, new, where)
        for name, step in (("items", "[]"), ("additionalProperties", ".*")):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self.of(old[name], new[name], where + step)
            elif _kind(old.get(name)) != _kind(new.get(name)) and not self._takes_more(old.get(name), new.get(name)):
                yield Break(where + step or ".", f"was {_shown(old.get(name))} and is {_shown(new.get(name))}")

    def _takes_more(self, old: Any, new: Any) -> bool:
        return self._way is Way.IN and new in (None, True)

    def _kinds(self, old: Schema, new: Schema, where: str) -> Iterator[Break]:
        ours, theirs = _alternatives(self._old, old), _alternatives(self._new, new)
        if self._way is Way.IN:
            wider = {*theirs, *(["integer"] if "number" in theirs else [])}
            lost = [] if not theirs else sorted(set(ours) - wider) if ours else sorted(theirs)
            changed = bool(lost)
        else:
            changed = set(ours) != set(theirs)
        if changed:
            yield Break(where or ".", f"its type was {_or(ours)} and is {_or(theirs)}")
            return
        words = {*old.get("enum", ())}, {*new.get("enum", ())}
        if "enum" in new and self._way is Way.IN and not ("enum" in old and words[0] <= words[1]):
            yield Break(where, f"it takes only {_or(sorted(map(str, words[1])))} now")
        if self._way is Way.OUT and (words[0] != words[1] or old.get("const") != new.get("const")):
            yield Break(where, f"its words were {_or(map(str, words[0]))} and are {_or(map(str, words[1]))}")
        for kind in set(ours) & set(theirs):  # of a union, each with its own limits and fields
            if "anyOf" in old and "anyOf" in new:
                yield from self.of(ours[kind], theirs[kind], where)

    def _limits(self, old: Schema, new: Schema, where: str) -> Iterator[Break]:
        for name in (*_UPPER, *_LOWER, *_EXACT):
            before, after = old.get(name), new.get(name)
            if before == after:
                continue
            if self._way is Way.IN and (after is None or (before is not None and _is_wider(name, before, after))):
                continue
            yield Break(where, f"its {name} was {_shown(before)} and is {_shown(after)}")

    def _properties(self, old: Schema, new: Schema, where: str) -> Iterator[Break]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in before.items():
            path = f"{where}.{name}".lstrip(".")
            if name not in after:
                yield Break(path, "it was removed, or renamed")
                continue
            if name in needed[1] - needed[0]:
                yield Break(path, "it was optional and is required")
            if name in needed[0] - needed[1] and self._way is Way.OUT:
                yield Break(path, "it was required and is optional")
            yield from self.of(schema, after[name], path)
        for name in sorted(after.keys() - before.keys()):
            if name in needed[1]:
                yield Break(f"{where}.{name}".lstrip("."), "it is new and required")


def _is_wider(name: str, before: Any, after: Any) -> bool:
    return bool(after >= before if name in _UPPER else after <= before if name in _LOWER else False)


def _reference(schema: Any) -> str | None:
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        return str(schema["$ref"])
    return _reference(schema["allOf"][0]) if "allOf" in schema else None


def _resolved(document: Schema, schema: Schema) -> Schema:
    reference = _reference(schema)
    if reference is None:
        return schema
    found: Schema = document["$defs"][reference.rpartition("/")[2]]
    return found


def _alternatives(document: Schema, schema: Schema) -> dict[str, Schema]:
    """Returns the kinds of value that a schema takes, each with its own schema; none if it takes anything."""
    if "anyOf" in schema:
        return {kind: one for part in schema["anyOf"] for kind, one in _alternatives(document, part).items()}
    schema = _resolved(document, schema)
    if "type" in schema:
        return {schema["type"]: schema}
    kinds = {"number" if isinstance(one, int | float) else "string" for one in schema.get("enum", ())}
    return dict.fromkeys(kinds, schema)


def _kind(schema: Any) -> str:
    return type(schema).__name__


def _shown(value: Any) -> str:
    return "absent" if value is None else repr(value) if not isinstance(value, dict) else "a schema"


def _or(words: Any) -> str:
    return " or ".join(sorted(words)) or "anything"
