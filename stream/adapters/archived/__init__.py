"""Reads an archive of pings, which `pathcast beside archive` writes, and holds all that its writers and readers share.

manifest   the record of which files make up a partition of the archive, and up to which offset: drawn there
catalog    finds an archive and its manifests
reading    its pings as columns, and as rows in the order of their times
"""
