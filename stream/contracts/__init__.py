"""The contracts with subscribers and producers: schemas of the public records, made of `stream.wire`, and how they may
change.

    catalog         which records there are, in which topics; a row for each schema
    meanings        what each field means, and its unit
    json_schema     JSON Schema of a record
    avro_schema     Avro schema of a record
    asyncapi        the AsyncAPI document of all topics
    compatibility   what of a change would break somebody
    files           the released schemas in deploy/: written, and compared
    cli             `pathcast dev contracts`

README.md has what is promised.
"""
