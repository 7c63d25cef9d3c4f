"""What is promised: no record is lost, and under exactly_once none is answered twice. `delivery.Delivery` is the door.

It owns offsets, checkpoints and takeovers, and knows no Faust. The order of writes is what the promise rests on, so
each step has a module of its own:

    delivery        Delivery: takes records in, hands answers out, gains and loses partitions
    inbox           records that wait or are at work, and when a batch is due (`Limits`)
    processing      one batch through the engine, and what happens when that raises
    committer       answers and offsets on their way to the brokers, two batches at most
    guarantees      AtLeastOnce, ExactlyOnce: the order of the two writes
    checkpointer    when a partition's states are written, and what a refusal means
    takeover        makes a partition ours: proof, fence, claim, replay
    takeover_plan   where a takeover starts, and whether the log is still the one that was answered
    continuity      whether new records follow those that were taken
    cold_reads      reads the states of entities that are not in memory, so that only their partition waits
    outages         which uses of the store fail at this moment
    partitions      what delivery keeps of a partition, and the interfaces that it asks for
    accounts        what a worker has done with its records
"""
