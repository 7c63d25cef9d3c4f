"""Brings what adapters have read into Kafka; there is no other way.

sink         Sink: takes pings and rejects, and returns when the brokers have acknowledged them
outbox       publishes records in rounds, and connects again by itself
delivering   gives the sink what it did not take again, until Kafka has it
"""
