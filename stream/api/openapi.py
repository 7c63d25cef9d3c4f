"""The OpenAPI 3.1 document of the API, made of its operations and types.

python -m stream.api.openapi deploy/openapi.yaml    writes it anew (needs PyYAML)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from stream.api.events import WatchMessage
from stream.api.operations import EVENTS, OPERATIONS, Operation
from stream.http.problems import CONTENT_TYPE, KINDS, Problem

VERSION: Final = "3.1.0"
SCHEME: Final = "token"
TICKET: Final = "ticket"  # the name of the scheme, and of its parameter
REF: Final = "#/components/schemas/{name}"
DESCRIPTION: Final = (
    "Forecasts of moving things, gap fills, arrival times, and a live feed, from what pathcast's workers know. Times "
    "are milliseconds since 1970 UTC, positions degrees WGS84. A covariance `cov_m2` is east-east, east-north, "
    "north-north in m². Errors are application/problem+json (RFC 9457): `type` is one of {kinds}, after "
    "`urn:pathcast:problem:`."
)


@cache
def document() -> dict[str, Any]:
    """Returns the document. It has no servers: they are where it was found."""
    types = list(_types())
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, by_type)
    return {
        "openapi": VERSION,
        "info": {
            "title": "pathcast",
            "version": "1",
            "summary": "Where moving things will be",
            "description": DESCRIPTION.format(kinds=", ".join(KINDS)),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                SCHEME: {"type": "http", "scheme": "bearer"},
                TICKET: {"type": "apiKey", "in": "query", "name": TICKET},
            },
        },
    }


def _types() -> Iterator[Any]:
    """Yields every type that needs a schema, once."""
    seen = set()
    for one in [Problem, WatchMessage, *(kind for operation in OPERATIONS for kind in _types_of(operation))]:
        if _key(one) not in seen:
            seen.add(_key(one))
            yield one


def _types_of(operation: Operation) -> Iterator[Any]:
    yield from operation.answers.values()
    yield from operation.bodies.values()
    for parameters in (operation.path_parameters, operation.query):
        if parameters is not None:
            yield from (field.type for field in msgspec.structs.fields(parameters))


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(one: Operation, by_type: Mapping[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = {"operationId": one.name, "summary": one.summary, "description": one.text}
    parameters = [*_parameters("path", one.path_parameters, by_type), *_parameters("query", one.query, by_type)]
    parameters += [
        {"name": name, "in": "header", "description": text, "required": False, "schema": {"type": "string"}}
        for name, text in one.headers.items()
    ]
    if parameters:
        members["parameters"] = parameters
    if one.bodies:
        content = {name: {"schema": by_type[_key(kind)]} for name, kind in one.bodies.items()}
        members["requestBody"] = {"required": True, "content": content}
    members["responses"] = _responses(one, by_type)
    members["security"] = [{}] if one.is_open else [{SCHEME: []}, *([{TICKET: []}] if one.takes_ticket else [])]
    return members


def _responses(one: Operation, by_type: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: {"schema": by_type[_key(kind)]} for name, kind in one.answers.items()}
    if EVENTS in content:
        content = {EVENTS: {"schema": {"type": "string"}, "x-event-data": content[EVENTS]["schema"]}}
    if one.status == 101:
        responses: dict[str, Any] = {"101": {"description": "The WebSocket is open.", "x-messages": content}}
    else:
        responses = {str(one.status): {"description": one.summary, "content": content}}
    problem = {CONTENT_TYPE: {"schema": {"$ref": REF.format(name="Problem")}}}
    for status in one.statuses:
        titles = dict.fromkeys(kind.title for kind in KINDS.values() if kind.status == status)
        responses[str(status)] = {"description": "; ".join(titles), "content": problem}
    if "If-None-Match" in one.headers:
        responses["304"] = {"description": "Nothing has changed"}
    if one.name == "ready":
        responses["503"] = {"description": "It cannot answer now", "content": content | problem}
    return responses


def _parameters(where: str, kind: type[msgspec.Struct] | None, by_type: Mapping[str, Any]) -> list[dict[str, Any]]:
    if kind is None:
        return []
    return [_parameter(where, field, by_type[_key(field.type)]) for field in msgspec.structs.fields(kind)]


def _parameter(where: str, field: Any, schema: Any) -> dict[str, Any]:
    schema = dict(_without_null(schema))
    parameter: dict[str, Any] = {"name": field.encode_name, "in": where, "required": field.required}
    if (text := schema.pop("description", None)) is not None:
        parameter["description"] = text
    default = field.default_factory() if field.default is msgspec.NODEFAULT and not field.required else field.default
    if default not in (None, msgspec.NODEFAULT):
        schema["default"] = default
    if schema.get("type") == "array":
        # bbox=1,2,3,4 in one; horizon_s=60&horizon_s=300 in several
        parameter |= {"style": "form", "explode": field.encode_name != "bbox"}
    parameter["schema"] = schema
    return parameter


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the schema of an optional parameter, which is absent and never null."""
    parts = schema.get("anyOf")
    if parts is None:
        return schema
    some = [part for part in parts if part != {"type": "null"}]
    return (
        {**{name: value for name, value in schema.items() if name != "anyOf"}, **some[0]} if len(some) == 1 else schema
    )


def as_json() -> bytes:
    return msgspec.json.encode(document())


def as_yaml() -> str:
    """Needs PyYAML."""
    import yaml

    head = "# Made by: python -m stream.api.openapi deploy/openapi.yaml\n"
    plain = msgspec.to_builtins(document())
    return head + cast(str, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m stream.api.openapi FILE\n")
        return 2
    Path(arguments[0]).write_text(as_yaml())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
