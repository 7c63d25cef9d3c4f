"""Brings pings of other systems into the pings topic (`pathcast ingest`).

A transport (HTTP, MQTT, a socket, a poller) takes bytes from a source and has a reader of `stream.adapters.live` read
them. What comes out goes through the one sink (`stream.ingest.sink`), which answers once Kafka has it. A transport
acknowledges to its source only then; while Kafka is away it says so, or stops reading.
"""
