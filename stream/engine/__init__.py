"""Turns records into answers. It has no broker and no clock of its own, and reaches the store only through its
interface.

`engine.Engine` is the entry point. It takes a batch of records, loads their entities, folds pings into tracks, steps
the model and renders forecasts, gap fills and dead letters.

    engine          Engine: what delivery calls; loads entities, and makes checkpoints
    stepping        Stepper: takes a batch through tracks and model, once its entities are in memory
    batch           EngineBatch, Rows, Outcome: what a batch consists of while it is folded
    assignment      assigns each ping of a batch, and its gap fills, its versions
    pings           which records are pings, in columns
    entities        the entities in memory, and as the bytes that the store keeps of them
    answers         renders forecasts as records
    branches        writes where passages part
    rendering       Renderer: renders and counts all that is published; gap fills as records
    json_template   writes numbers and texts as JSON, in compiled code
    bisection       finds the record at which a batch raises
    counts          what the engine has counted
"""
