"""Has the commands of `pathcast ingest`. They import nothing heavy at the top, because `--help` imports all of them."""
