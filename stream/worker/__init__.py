"""The worker process: the one place that imports Faust.

cli                `pathcast worker`: options, one process or several
startup            what is said and checked before the worker joins its group
app                App: puts Faust, delivery, engine, store and pages together
faust_driver       Faust's Kafka driver, changed where it would lose records
process_pool       several worker processes and a parent that restarts what dies
warmup             compiles and touches everything once, before the first ping
memory             gives memory back, and says how much is used
client_log         one line of ours instead of hundreds of the Kafka client's
log_format         log lines as text or as JSON
partition_counts   notices that the input topic got more partitions
"""
