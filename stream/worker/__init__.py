"""Runs the worker process. Of the product, only this folder imports Faust.

cli                `pathcast worker`: options, one process or several
startup            logs the settings and checks the servers before the worker joins its consumer group
app                App: connects Faust, delivery, engine, store and the HTTP pages
faust_driver       Faust's Kafka driver, changed where it would lose records
consumer_thread    the thread in which Faust runs aiokafka's consumer
process_pool       several worker processes, and a parent that restarts those that die
warmup             compiles everything before the first ping
memory             settings of the garbage collector and of malloc
client_log         one line of ours instead of hundreds of the Kafka client's
log_format         log lines as text or as JSON
monitor            metrics, probes, and what watches the brokers
partition_counts   notices that the input topic's number of partitions has changed
"""
