"""The contracts with subscribers and producers: schemas of the public records, made of `stream.wire`, and how they may
change.

    catalog         which records there are, in which topics; a row for each schema
    json_schema     JSON Schema of a record, with the meanings that its struct states
    avro_schema     Avro schema of a record
    asyncapi        the AsyncAPI document of all topics
    compatibility   finds breaking schema changes
    files           the released schemas in deploy/: written, and compared
    cli             `pathcast dev contracts`

README.md has what is promised.
"""
