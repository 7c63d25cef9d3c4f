"""Each format of a file: how its times look, and how it is copied with filled rows between its own.

kinds      which format a name, or --format, stands for
csv_file   CSV, also packed by gzip
ndjson     a JSON object on each line
gpx        track points; forecasts as tracks
parquet    Parquet, with types, metadata and compression; GeoParquet's points, too
tables     forecasts as CSV, NDJSON or Parquet
"""
