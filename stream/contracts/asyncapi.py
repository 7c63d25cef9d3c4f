"""Makes the AsyncAPI 3 document: every topic with its key, its headers, its messages, and who writes or reads it.

The operations are those of pathcast: it receives what others write, and sends the rest.
"""

from __future__ import annotations

from typing import Any, Final

from stream.contracts.catalog import RECORDS, VERSION, Contract, Way
from stream.contracts.json_schema import Schema, components, json_schema

BINDING: Final = "0.5.0"  # of the Kafka bindings
BYTES: Final = {"type": "string", "format": "binary", "description": "the record as it came, byte for byte"}


def asyncapi() -> Schema:
    """Returns the document. Its schemas are in itself, so that a tool needs this file alone."""
    schemas: dict[str, Schema] = {}
    for one in RECORDS:
        for name, schema in components(one, "#/components/schemas/{name}").items():
            assert schemas.setdefault(name, schema) == schema, f"two records have different {name}"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "pathcast",
            "version": f"{VERSION}.0.0",
            "description": "Live GPS positions in, forecasts of where each entity will be out. An unknown field is "
            "absent, never 0 or null. Read with isolation.level=read_committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka"}},
        "channels": {_channel_id(one): _channel(one) for one in RECORDS},
        "operations": {_operation_id(one): _operation(one) for one in RECORDS},
        "components": {
            "messages": {one.name: _message(one) for one in RECORDS},
            "schemas": {**schemas, **{f"{one.name}_event": _event(one) for one in RECORDS if one.event}},
        },
    }


def asyncapi_text() -> str:
    """Returns the document as YAML."""
    import yaml

    said = "# Made by `pathcast dev contracts write` out of stream/contracts: change that.\n"
    text: str = yaml.dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120, Dumper=_plain(yaml))
    return said + text


def _plain(yaml: Any) -> Any:
    """Returns a dumper that writes equal values out, and not as aliases of each other."""

    class Plain(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, _: Any) -> bool:
            return True

    return Plain


def _word(one: Contract) -> str:
    """Returns the topic's own word: forecasts, of {prefix}.forecasts.v1."""
    return "dead_letters" if one.topic.endswith(".dlq") else one.topic.split(".")[1]


def _channel_id(one: Contract) -> str:
    return _word(one)


def _operation_id(one: Contract) -> str:
    return f"{'receive' if one.way is Way.IN else 'send'}_{_word(one)}"


def _channel(one: Contract) -> Schema:
    there = [other for other in RECORDS if other.topic == one.topic]
    topic: dict[str, Any] = {"cleanup.policy": ["compact"]} if one.compacted else {}
    binding = {"bindingVersion": BINDING, **({"topicConfiguration": topic} if topic else {})}
    return {
        "address": one.topic,
        "description": f"Written by {', '.join(dict.fromkeys(other.written_by for other in there))}.",
        "parameters": {"prefix": {"default": "pathcast", "description": "of every topic: --prefix"}},
        "messages": {other.name: {"$ref": f"#/components/messages/{other.name}"} for other in there},
        "bindings": {"kafka": binding},
    }


def _operation(one: Contract) -> Schema:
    there = [other for other in RECORDS if other.topic == one.topic]
    channel = _channel_id(one)
    return {
        "action": "receive" if one.way is Way.IN else "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{other.name}"} for other in there],
    }


def _message(one: Contract) -> Schema:
    schema = json_schema(one)
    own = {"$ref": f"#/components/schemas/{one.type.__name__}"}
    found: Schema = {
        "name": one.name,
        "title": schema["title"],
        "summary": schema["description"],
        "contentType": "application/octet-stream" if one.headers_only else "application/json",
        "payload": BYTES if one.headers_only else own,
    }
    if one.headers_only:
        found["headers"] = own
    if one.event:
        found["headers"] = {"$ref": f"#/components/schemas/{one.name}_event"}
    key = {"type": "string", "description": one.key}
    return {**found, "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}}}


def _event(one: Contract) -> Schema:
    """Returns the schema of the CloudEvents headers (Kafka's binary mode)."""
    fixed = {"ce_specversion": "1.0", "ce_type": f"pathcast.{one.event}.v{VERSION}", "content-type": "application/json"}
    properties: dict[str, Schema] = {name: {"type": "string", "const": value} for name, value in fixed.items()}
    properties["ce_source"] = {"type": "string", "description": "/ topic / partition that it was made of"}
    properties["ce_id"] = {"type": "string", "description": "the same for a copy of the record"}
    return {
        "title": f"CloudEvents 1.0 headers of a {one.name}",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
