"""The weights of a model as arrays: what a checkpoint holds, and what serving needs of it. Nothing here imports torch.

    shapes     which tensors the weights of a config have
    reading    `Parameters` and their fingerprint; reads a checkpoint and checks it
    writing    writes a checkpoint, each file whole or not at all
    untrained  random weights of a config

Training has the same weights as modules of torch (`model.network`), and reads and writes checkpoints through here.
"""
