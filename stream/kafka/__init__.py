"""Reads from Kafka and writes to it, and converts the record formats.

Records come in as columns (`records.record_columns.Records`) and go out as encoded batches
(`records.encoded_batches.EncodedBatch`), because a Python object for each record would cost more than the model.

    records          Kafka's record format, in columns
    patches          `patch_aiokafka()`: the one place that changes aiokafka
    fetcher          reads a fetch in columns, and the records at which aiokafka raises an error
    pacing           lets pings gather while many come
    partitioner      where Kafka's default partitioner puts a key
    entity_places    which entities lie in several partitions, or elsewhere than there
    producer         Publisher: sends batches and offsets, in transactions or without
    log              a partition as a log: committed offsets, bounds, and whether it was cut
    reading          consumers: of a topic up to its end, of a part of a log, of a group
    log_facts        asks the brokers for the facts of a partition's log
    membership       checks that our membership of the consumer group still holds
    following        follows one topic, and shows its records
    admin            creates and describes topics
"""
