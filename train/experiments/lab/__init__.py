"""The shared parts of the experiments: trainings of one size, evaluations, reports."""
