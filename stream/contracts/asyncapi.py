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

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Writes equal values out, and not as aliases of each other."""

        def ignore_aliases(self, _: Any) -> bool:
            return True

    text: str = yaml.dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120, Dumper=Dumper)
    return f"# Made by `pathcast dev contracts write` out of stream/contracts: change that.\n{text}"


def _channel_id(one: Contract) -> str:
    """Returns the topic's own word: forecasts, of {prefix}.forecasts.v1."""
    return "dead_letters" if one.topic.endswith(".dlq") else one.topic.split(".")[1]


def _operation_id(one: Contract) -> str:
    return f"{'receive' if one.way is Way.IN else 'send'}_{_channel_id(one)}"


def _of_topic(topic: str) -> list[Contract]:
    return [one for one in RECORDS if one.topic == topic]


def _channel(one: Contract) -> Schema:
    writers = ", ".join(dict.fromkeys(other.written_by for other in _of_topic(one.topic)))
    compacted = {"topicConfiguration": {"cleanup.policy": ["compact"]}} if one.compacted else {}
    return {
        "address": one.topic,
        "description": f"Written by {writers}.",
        "parameters": {"prefix": {"default": "pathcast", "description": "of every topic: --prefix"}},
        "messages": {other.name: {"$ref": f"#/components/messages/{other.name}"} for other in _of_topic(one.topic)},
        "bindings": {"kafka": {"bindingVersion": BINDING, **compacted}},
    }


def _operation(one: Contract) -> Schema:
    channel = f"#/channels/{_channel_id(one)}"
    return {
        "action": "receive" if one.way is Way.IN else "send",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{other.name}"} for other in _of_topic(one.topic)],
    }


def _message(one: Contract) -> Schema:
    schema = json_schema(one)
    own = {"$ref": f"#/components/schemas/{one.type.__name__}"}
    headers = own if one.headers_only else {"$ref": f"#/components/schemas/{one.name}_event"} if one.event else None
    key = {"type": "string", "description": one.key}
    return {
        "name": one.name,
        "title": schema["title"],
        "summary": schema["description"],
        "contentType": "application/octet-stream" if one.headers_only else "application/json",
        "payload": BYTES if one.headers_only else own,
        **({"headers": headers} if headers else {}),
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
    }


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
