"""Reads messages by a map: each position in one becomes a ping or a reject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from stream.adapters.live.json_messages import decode_json, describe_kind, is_plain
from stream.adapters.live.mapping.definition import FieldMapping, MessageMap, Scalar
from stream.adapters.live.mapping.paths import ABSENT
from stream.adapters.live.parsed import Parsed, Skip, ping_of, reject
from stream.wire import REQUIRED, Reject
from stream.wire.escape import shown

NO_POSITION: Final = Skip("no_position")
OTHER_KIND: Final = Skip("other_kind")

Scopes = tuple[Any, ...]


class MapReader:
    """A reader of one map's messages (`stream.adapters.live.parsed.Reader`)."""

    def __init__(self, mapped: MessageMap) -> None:
        self.map = mapped

    def __call__(self, raw: bytes, came_ms: int) -> list[Parsed]:
        """Returns what each position in the message is. Never raises, whatever the bytes are."""
        message = decode_json(raw)
        if isinstance(message, Reject):
            return [message]
        elements = message if isinstance(message, list) else [message]
        if not elements:
            return [NO_POSITION]
        return [one for element in elements for one in self._read(element, came_ms)]

    def _read(self, message: Any, came_ms: int) -> Iterator[Parsed]:
        if not isinstance(message, dict):
            yield reject(
                "wrong_type", f"the message is {describe_kind(message)}, expected an object, or an array of them"
            )
            return
        if (beside := self._skip_other(message)) is not None:
            yield beside
            return
        if not self.map.positions:
            yield self._ping((message,), came_ms)
            return
        count = 0
        for steps in self.map.positions:
            for scopes in steps.scopes((message,)):
                count += 1
                yield self._ping(scopes, came_ms)
        if not count:
            begun = any(steps.begins_in(message) for steps in self.map.positions)
            yield NO_POSITION if begun else self._reject_message(message)

    def _skip_other(self, message: Mapping[str, Any]) -> Parsed | None:
        """Returns what a message is that the map is not for."""
        for path, wanted in self.map.only.items():
            value = path.find((message,))
            if value is ABSENT:
                return reject("missing_field", f"there is no {path.text}, which says what kind of message it is")
            if not any(_are_equal(value, one) for one in wanted):
                return OTHER_KIND
        return None

    def _reject_message(self, message: Mapping[str, Any]) -> Reject:
        expected = " or ".join(steps.text for steps in self.map.positions)
        names = ", ".join(shown(name)[1:-1] for name in list(message)[:3])
        return reject("missing_field", f"there is no {expected} in it; it has {names or 'no fields'}")

    def _ping(self, scopes: Scopes, came_ms: int) -> Parsed:
        if not isinstance(scopes[-1], dict):
            return reject("wrong_type", f"a position is {describe_kind(scopes[-1])}, expected an object")
        if self.map.skip_without is not None and self.map.skip_without.find(scopes) in (ABSENT, None):
            return NO_POSITION
        fields = dict(self.map.constants)
        for name, field in self.map.fields.items():
            value = _value(field, scopes)
            if isinstance(value, dict | list):
                if name in REQUIRED:
                    return reject("wrong_type", f"{name}, at {field.text}, is {describe_kind(value)}")
            elif value is not None:
                fields[name] = value
        if absent := [name for name in REQUIRED if fields.get(name) is None]:
            return reject("missing_field", "; ".join(self._describe_absence(name) for name in absent))
        attrs = {name: value for name, field in self.map.attrs.items() if is_plain(value := _value(field, scopes))}
        return ping_of({**fields, "attrs": attrs} if attrs else fields, came_ms)

    def _describe_absence(self, name: str) -> str:
        return f"{name} absent: there is nothing at {self.map.fields[name].text}"


def _value(field: FieldMapping, scopes: Sequence[Any]) -> Any:
    """Returns the value of the first place that has one, in our unit; None if none has."""
    for path, convert, absent in field.places:
        value = path.find(scopes)
        if value is not ABSENT and value is not None and not any(_are_equal(value, one) for one in absent):
            return value if isinstance(value, dict | list) else convert(value)
    return None


def _are_equal(value: Any, other: Scalar) -> bool:
    """Returns whether two scalars are equal. A flag is no number: true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
