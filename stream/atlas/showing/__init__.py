"""Shows atlases to people.

diff        compares two
flows       draws one as GeoJSON, for a map
geoparquet  the same as GeoParquet
cli         `pathcast atlas list`, `show`, `diff` and `export`
"""
