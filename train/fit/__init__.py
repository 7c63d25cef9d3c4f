"""Training: the loop, loss, optimizers, checkpoints, several processes, and the model card.

trainer       fit(): the training loop
loss          the training loss
run_state     the state from which an interrupted run continues, its checkpoint, and the loss of forgetting
optimizer     Muon for matrices, AdamW for the rest
distributed   several processes
first_map     the cells that a new map knows, and their first numbers
recipe        the options that make a size of model
model_card    the card beside the weights
progress      what a run shows, and its event files for TensorBoard
"""
