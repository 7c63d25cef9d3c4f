"""Shows atlases to people.

reading     reads the file of one
diff        compares two
flows       draws one as arrows, in GeoJSON, for a map
geoparquet  the same as GeoParquet
ways        draws one as streets, for the live map
cli         `pathcast models atlas` and `pathcast export atlas`
"""
