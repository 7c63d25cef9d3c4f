"""Everything that reads from Kafka or writes to it, and the record formats on the way.

Records come in as columns (`record_columns.Records`) and go out as batches that are encoded already
(`encoded_batches.EncodedBatch`), because a Python object for each record would cost more than the model.

    patches          `patch_aiokafka()`: the one place that changes aiokafka
    fetcher          reads a fetch in columns, and records that aiokafka would refuse
    record_batches   many small record batches, read at once
    record_columns   Records: the records of a fetch in columns
    columns          BytesColumn: many byte strings in one buffer
    decompression    decompression that stops at a limit
    encoded_batches  EncodedBatch: answers in Kafka's record format
    producer         Publisher: sends batches and offsets, in transactions or without
    log              the input topic as a log: positions, committed offsets, reading again
    log_facts        what brokers know of a partition's log
    membership       whether our membership of the consumer group still holds
    admin            topics: what there is, what to create
"""
