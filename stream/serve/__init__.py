"""What a worker shows of itself over HTTP: liveness, readiness, metrics.

http_server      the pages, and who may read them
health           one reading of a worker, and whether it is alive and ready
metrics          the same reading as Prometheus metrics
monitor          takes the readings, and logs what an operator has to know
broker_monitor   how long Kafka has not answered
auth_monitor     what Kafka's clients were refused
"""
