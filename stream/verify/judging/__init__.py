"""Judges the published answers of one partition by those of the replay. It reads no topic and no store.

judge          Judge: takes the replayed batches in order, and counts verdicts
doubts         answers that are not equal to the due ones, until they were read back
unread         answers that were given without the stored state of their entity
leftovers      answers that are due to no record
trusted_state  for which entities the replay has the same track and state as the workers
"""
