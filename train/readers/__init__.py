"""Readers of what is no file, for training. Recorded files have theirs in `stream.adapters`, which feeds them, too."""
