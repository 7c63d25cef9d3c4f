"""The batch trainer and the judge: recorded tracks in, weights and scores out."""
