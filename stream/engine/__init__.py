"""The pure core: records in, answers out. No broker, no clock of its own, no store but through its interface.

`engine.Engine` is the door. It takes a batch of records, admits their entities, folds pings into tracks, steps the
model and renders forecasts, gap fills and dead letters.

    engine          Engine: what delivery calls; admits entities, and makes checkpoints
    stepping        Stepper: a batch through tracks and model, once its entities are in memory
    batch           EngineBatch, Rows, Outcome: what a batch consists of while it is folded
    pings           which records are pings, in columns
    entities        EntityTable: the entities in memory, by partition
    restore         stored entities into memory: the track as it is, the model state if it is ours, else rebuilt
    stored_entity   the bytes that the store keeps of one entity
    snapshot        one partition's checkpoint, leg by leg, while the engine works on
    answers         forecasts and gap fills as records
    json_template   numbers and texts into JSON, compiled
    blake2b         ids of many records at once, compiled
    bisection       finds the record at which a batch raises
    quarantine      entities that were given up, and until when
    quota           how many entities a partition may have in the store
    counts          what the engine has counted
"""
