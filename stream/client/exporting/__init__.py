"""Writes tracks, forecasts and gap fills in formats that maps and notebooks read (`pathcast export`).

cli         pathcast export
collected   reads topics, or a file of JSON lines, into tracks, forecasts and gap fills
spool       keeps these in a temporary file, so that memory does not grow with them
paths       what is exported as paths over time, in parts where they lie across the 180th meridian
geojson     GeoJSON (RFC 7946): tracks, forecasts, their positions and regions
mf_json     OGC Moving Features JSON (19-045r3), for MovingPandas, MobilityDB and MEOS
table       CSV
"""
