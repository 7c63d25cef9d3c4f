"""Brings pings of other systems into the pings topic (`pathcast ingest`).

A transport (HTTP, MQTT, a socket, a poller) takes bytes from a source and has a reader of `stream.adapters.live` read
them. What comes out goes through the one sink (`publishing.sink`), which answers once Kafka has it. A transport
acknowledges to its source only then; while Kafka is away it says so, or stops reading.

cli, commands   `pathcast ingest`: a command for each way in
http            webhooks
mqtt            a broker's messages
feeds           what is polled, read from sockets, serial ports, files and standard input
kafka_forward   the topic of another program
samples         recorded vehicles to try it with
publishing      the sink
source          whether a transport is connected to its source
running, pages  one process: its start and end; its metrics, and whether it is alive and ready
traccar_back    forecasts as second devices in Traccar
"""
