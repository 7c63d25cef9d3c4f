"""Takes messages from an MQTT broker, and acknowledges them to it once Kafka has them (`pathcast ingest mqtt`).

settings     what `pathcast ingest mqtt` is told
connection   the connection to the broker
transport    messages to the sink, and their acknowledgements
"""
