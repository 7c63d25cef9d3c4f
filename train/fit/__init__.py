"""Training: the loop, loss, optimizers, checkpoints, several processes, and the model card.

trainer       fit(): the training loop
loss          the training loss
run_state     the state from which an interrupted run continues, and its checkpoint
optimizer     Muon for matrices, AdamW for the rest
muon          the optimizer Muon
distributed   several processes
first_map     which cells a new map knows, and what it holds at first
retention     what weights knew of elsewhere stays while they learn a region
recipe        the options that make a size of model
model_card    the card beside the weights
progress      what a run shows; tensorboard writes its event files
"""
