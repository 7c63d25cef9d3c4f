"""The training loop: loss, optimizers, checkpoints, several processes, and the card of the weights.

trainer       fit(): the loop
loss          what is minimised
run_state     what a run needs to go on where it was interrupted
optimizer     Muon for matrices, AdamW for the rest
distributed   several processes
recipe        the options that make a size of model
"""
