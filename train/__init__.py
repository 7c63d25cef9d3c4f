"""The batch trainer and the evaluation: recorded tracks in, weights and metrics out."""
