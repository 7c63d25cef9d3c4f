"""Reads from Kafka and writes to it, and converts the record formats.

Records come in as columns (`record_columns.Records`) and go out as encoded batches (`encoded_batches.EncodedBatch`),
because a Python object for each record would cost more than the model.

    patches          `patch_aiokafka()`: the one place that changes aiokafka
    fetcher          reads a fetch in columns, and the records at which aiokafka raises an error
    record_batches   reads many small record batches together
    record_columns   Records: the records of a fetch in columns
    columns          BytesColumn: many byte strings in one buffer
    decompression    decompression that stops at a limit
    encoded_batches  EncodedBatch: answers in Kafka's record format
    producer         Publisher: sends batches and offsets, in transactions or without
    log              the input topic as a log: committed offsets, bounds, reading it again
    log_facts        asks the brokers for the facts of a partition's log
    membership       checks that our membership of the consumer group still holds
    admin            creates and describes topics
"""
