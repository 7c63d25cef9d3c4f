"""Defines the root command (`main`) and the commands that are neither a worker nor the demo.

main           `pathcast`: finds commands by entry points, and turns errors into one line
feed, feeder   `pathcast feed`: recorded pings into Kafka
replay         `pathcast replay`: the engine from file to file, without a broker
tail_cli, tail `pathcast tail`: follows a topic
topics         `pathcast topics`
config         `pathcast config`: settings and where they come from
dlq            `pathcast dlq`: dead_letters reads them, requeue puts them back
"""
