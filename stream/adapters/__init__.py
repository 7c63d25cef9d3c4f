"""Recorded tracks, one file per format. `files` yields records for `stream.tracks.clean` to judge; `sources` knows all
formats by name and yields columns. Both are for feeding and for training."""
