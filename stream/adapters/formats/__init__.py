"""Has one module for each format of recorded tracks that is not Parquet, CSV or NDJSON with a row per ping.

Each has `read(files, progress)`, which returns a `Table` of columns. `stream.adapters.sources` lists them by name.
"""
