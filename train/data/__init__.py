"""Turns recorded tracks into a corpus: reading, duplicates, splits, anchors.

corpus       Corpus: tracks in columns, cached on disk
cutting      where a track ends: silences and jumps
splits       which entities and times are trained on, validated on, tested on; `holdout.json` lists the fixed ones
anchors      the pings at which a forecast is evaluated
duplicates   tracks that are copies of another
synth        invented towns
topic        a Kafka topic as a source
"""
