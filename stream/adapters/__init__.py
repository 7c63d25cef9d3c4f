"""Reads recorded tracks, for feeding and for training. `files` yields records, which `stream.tracks.clean` validates;
`sources` has all formats by name and yields columns. What a table's columns mean is said by a map (`column_names`), or
guessed (`guess`)."""
