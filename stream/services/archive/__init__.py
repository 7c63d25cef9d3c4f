"""Lands pings as Parquet files by day, each exactly once: `pathcast beside archive`. How the files lie, and what makes
them count, is in `stream.adapters.archived`, whose reader `train`, `evaluate`, `train atlas` and `replay` use.

settings    what a member is told
changes     writes files, creates the manifest that names them, and clears away what others left behind
landing     a partition that is ours: takes records, and lands them
tidying     merges small files, and deletes old ones
forgetting  removes an entity, for good
member      one of the group that shares the partitions
showing     `dev archive`; `cli` offers `beside archive`
"""
