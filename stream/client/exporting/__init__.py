"""Writes tracks, forecasts and gap fills in formats that maps and notebooks read (`pathcast export`).

cli          pathcast export
collecting   reads topics, or a file of JSON lines, into a temporary file
formats      GeoJSON, MF-JSON and CSV
"""
