"""Watches a worker: whether it is alive and ready, and its metrics.

health           one reading of a worker, and whether it is alive and ready
metrics          the same reading as Prometheus metrics
monitor          takes the readings, and logs what an operator has to know
broker_monitor   measures how long Kafka has not answered
auth_monitor     notices that Kafka denies access to its clients
"""
