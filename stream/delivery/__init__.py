"""Moves records from the input topic through the engine to the output topics. `delivery.Delivery` is the entry point.

No record is lost, and under exactly_once none is answered twice. Both depend on the order of writes, so each step has
a module of its own. This package owns offsets, checkpoints and takeovers, and does not depend on Faust:

    delivery        Delivery: the pump that takes records in and hands answers out, one batch at a time
    ownership       gains and loses partitions: takeovers, and whether the log is the one that was answered
    inbox           records that wait or are being processed, and when a batch is due (`Limits`)
    processing      takes one batch through the engine, and handles its exceptions
    committer       takes answers and offsets to the brokers, two batches at most
    guarantees      AtLeastOnce, ExactlyOnce: the order of the two writes
    checkpointer    when a partition's states are written, and what a refusal means
    cold_reads      reads the states of entities that are not in memory, so that only their partition waits
    waiting_pings   lets a partition wait for a version of the atlas
    outages         which uses of the store fail at this moment
    partitions      what delivery keeps for each partition, and the interfaces that it needs
    accounts        counts what a worker has done with its records
"""
