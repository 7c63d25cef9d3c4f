"""Fills the gaps of recorded files, and writes forecasts of them, with a worker's own engine and no broker.

A file is read twice and copied once: `survey` finds in which order its rows are, `answering` gives them to the engine,
and `formats` writes the file again, with the filled rows between its own.

    fill_cli      `pathcast fill`
    forecast_cli  `pathcast forecast`
    options       the options of both
    survey        the times and entities of all rows, and the order that follows
    answering     the rows through the engine, in batches
    plan          what a file is filled with: which filled row comes after which row, and which rows were no pings
    times         a time in the form that a file has its times in
    outputs       a file that appears whole or not at all; standard input as a file
    showing       progress, and the summary for people
    formats       CSV, NDJSON, GPX and Parquet: copied with filled rows, and forecasts written in them
"""
