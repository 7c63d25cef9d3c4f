"""Reads requests into types: parameters and bodies. What does not fit is a Refusal that says what came and what was
expected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
from aiohttp import web

from stream.api.live.newest import Box
from stream.api.messages import OfEntity
from stream.http.problems import Refusal
from stream.wire.escape import shown

T = TypeVar("T", bound=msgspec.Struct)
BODY_S: Final = 10.0  # in which a body must have arrived
MAX_BODY_BYTES: Final = 1024 * 1024
COMMA_SEPARATED: Final = frozenset({"bbox"})  # parameters that are one text with several numbers
_NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")  # as JSON has it, nearly


def read_entity(request: web.Request) -> str:
    """Returns the id of an entity that a path names. Raises Refusal."""
    return read_parameters({"id": [request.match_info["id"]]}, OfEntity, where="path").id


def read_query(request: web.Request, kind: type[T], besides: Collection[str] = ()) -> T:
    """Returns the parameters of a query, without those (`besides`) that others have read. Raises Refusal."""
    given: dict[str, list[str]] = {}
    for name, value in request.query.items():
        if name in besides:
            continue
        given.setdefault(name, []).append(value)
    return read_parameters(given, kind, where="query")


def read_box(bbox: Sequence[float] | None) -> Box | None:
    """Returns the box of a request. Raises Refusal."""
    if bbox is None:
        return None
    box = Box(*bbox)
    if not (-180 <= box.west <= 180 and -180 <= box.east <= 180 and -90 <= box.south <= box.north <= 90):
        expected = "west,south,east,north with -180..180, -90..90 and south <= north"
        raise Refusal("bad_parameter", "the bbox is not on the globe", came=",".join(map(str, bbox)), expected=expected)
    return box


def read_parameters(given: Mapping[str, list[str]], kind: type[T], *, where: str) -> T:
    """Returns parameters, each with all its values, as a struct. Raises Refusal."""
    fields = _fields(kind)
    values: dict[str, Any] = {}
    for name, texts in given.items():
        field = fields.get(name)
        if field is None:
            expected = ", ".join(fields) or "no parameter"
            raise Refusal("bad_parameter", f"there is no parameter {shown(name)} here", came=name, expected=expected)
        if len(texts) > 1 and not _is_list(field):
            raise Refusal("bad_parameter", f"{name} is given {len(texts)} times", expected="once")
        values[name] = _value(name, texts, field)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        came = _came(error, given)
        raise Refusal(
            "bad_parameter", f"{where}: {_line_of(error)}", came=came, expected=_expectation(error, kind)
        ) from None


def _value(name: str, texts: list[str], field: Any) -> Any:
    if name in COMMA_SEPARATED:
        return [_scalar(name, part, float) for part in texts[0].split(",")]
    scalar = _scalar_type(field)
    if _is_list(field):
        return [_scalar(name, text, scalar) for text in texts]
    return _scalar(name, texts[0], scalar)


def _scalar(name: str, text: str, kind: type) -> Any:
    """Returns a number or the text. msgspec's lax mode would take "nan" and "1_0", too, as Python does."""
    if kind is str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refusal("bad_parameter", f"{name} is not UTF-8", came=text, expected="UTF-8") from None
        return text
    what = "a whole number" if kind is int else "a number"
    if _NUMBER.fullmatch(text) is None or (kind is int and not text.lstrip("-").isdigit()):
        raise Refusal("bad_parameter", f"{name} is {shown(text)}, expected {what}", came=text, expected=what)
    return kind(text)


@lru_cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Returns the type of each parameter, by its name in a request."""
    info = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(kind))
    return {field.encode_name: _plain(field.type) for field in info.fields}


def _plain(kind: Any) -> Any:
    """Returns the type without None and without what a Meta adds."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        (one,) = (part for part in kind.types if not isinstance(part, msgspec.inspect.NoneType))
        return _plain(one)
    return kind


def _is_list(field: Any) -> bool:
    return isinstance(field, msgspec.inspect.ListType | msgspec.inspect.VarTupleType)


def _scalar_type(field: Any) -> type:
    inner = _plain(field.item_type) if _is_list(field) else field
    kinds = {msgspec.inspect.IntType: int, msgspec.inspect.FloatType: float}
    return kinds.get(type(inner), str)


async def read_body(request: web.Request, kind: type[T]) -> T:
    """Returns the request's JSON body. Raises Refusal."""
    if (length := request.content_length) is not None and length > MAX_BODY_BYTES:
        raise _too_large(length)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        came = request.headers["Content-Encoding"]
        raise Refusal("wrong_type", "a body that is compressed is not read", came=came, expected="identity")
    try:
        async with asyncio.timeout(BODY_S):
            raw = await request.read()
    except TimeoutError:
        raise Refusal("slow_request", f"the body did not arrive within {BODY_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(length) from None
    return decode(raw, kind)


def decode(raw: bytes | str, kind: type[T]) -> T:
    """Returns a JSON text as a struct. Raises Refusal."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise Refusal(
            "bad_body", _line_of(error), came=_member(raw, error), expected=_expectation(error, kind)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"not JSON: {_line_of(error)}"
        raise Refusal("bad_body", detail, came=raw[:60], expected="a JSON object") from None
    except RecursionError:
        raise Refusal("bad_body", "it nests too deeply", expected="a JSON object") from None


def _too_large(length: int | None) -> Refusal:
    came = None if length is None else f"{length} bytes"
    return Refusal(
        "too_large", f"at most {MAX_BODY_BYTES} bytes are read", came=came, expected=f"{MAX_BODY_BYTES} bytes"
    )


def _line_of(error: Exception) -> str:
    """Returns msgspec's text, which names the place; it quotes no more than names of members."""
    return shown_line(str(error))


def shown_line(text: str, most: int = 300) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def _expectation(error: Exception, kind: type[msgspec.Struct]) -> str | None:
    """Returns what msgspec expected, as far as its text says that."""
    text = shown_line(str(error))
    if text.startswith("Object contains unknown field") and " - at " not in text:
        return ", ".join(kind.__struct_encode_fields__)
    if (missing := re.match("Object missing required field (`.*?`)", text)) is not None:
        return f"a member {missing[1]}"
    if text.startswith("Invalid enum value") and (named := re.search(r"`\$\.([a-z_]+)", text)) is not None:
        field = _fields(kind).get(named[1])
        return " or ".join(map(repr, field.values)) if isinstance(field, msgspec.inspect.LiteralType) else None
    match = re.match(r"Expected (.*?)(?:, got .*?)?(?: - at .*)?$", text)
    return match[1] if match is not None else None


def _came(error: Exception, given: Mapping[str, list[str]]) -> object:
    """Returns the values of the parameter that msgspec complains of."""
    match = re.search(r"`\$\.([a-z_]+)", str(error))
    values = None if match is None else given.get(match[1])
    return None if values is None else (values[0] if len(values) == 1 else values)


def _member(raw: bytes | str, error: Exception) -> object:
    """Returns what stands in the body at the place that msgspec complains of; None if that is not one value."""
    match = re.search(r"- at `\$((?:\.[A-Za-z_]+|\[[0-9]+\])*)`", str(error))
    if match is None:
        return None
    try:
        value: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for name, index in re.findall(r"\.([A-Za-z_]+)|\[([0-9]+)\]", match[1]):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return type(value).__name__ if isinstance(value, dict | list) else value
