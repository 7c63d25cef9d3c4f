"""Each format of a file: how its times look, and how it is copied with filled rows between its own.

kinds      which format a name, or --format, stands for
marking    the names of the columns that mark filled rows
csv_file   CSV, also packed by gzip
ndjson     a JSON object on each line
gpx        track points, by the places of their ends in the file
parquet    Parquet, with types, metadata and compression; GeoParquet's points, too
tables     forecasts as CSV, NDJSON or Parquet
tracks     forecasts as GPX
"""
