"""Shows atlases to people.

diff        compares two
flows       draws one as GeoJSON, for a map
ways        joins the cells of one to streets, for the live map
geoparquet  the same as GeoParquet
cli         `pathcast atlas list`, `show`, `diff` and `export`
"""
