"""Takes messages from an MQTT broker, and acknowledges them to it once Kafka has them (`pathcast ingest mqtt`)."""
