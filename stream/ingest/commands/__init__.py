"""Has the commands of `pathcast ingest`: one module each, with a function of the module's name. They import nothing
heavy at the top, because `--help` imports all of them.
"""
