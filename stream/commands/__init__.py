"""Defines the root command (`main`), and the commands that run once.

main           `pathcast`: finds commands by entry points, and turns errors into one line
names          what commands were called before, and commands with others below them
feed, feeder   `pathcast feed`: recorded pings into Kafka
replay         `pathcast replay`: the engine from file to file, without a broker
tail_cli       `pathcast tail`: follows a topic
topics         `pathcast dev topics`
config         `pathcast config`: settings and where they come from
dlq            `pathcast dlq`: shows dead letters, and puts them back
doctor         `pathcast doctor`: is everything there that a worker needs
files          `pathcast fill` and `pathcast forecast`: files instead of topics
forget         `pathcast forget`: one entity out of every place
models         `pathcast models`: which weights answer
"""
