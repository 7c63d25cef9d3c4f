"""`pathcast beside avro`: forecasts and gap fills as Avro, in topics of their own, with their schemas in a registry.

    registry    asks a schema registry for the id of a schema (Confluent's protocol)
    unit        turns the records of one partition into Avro
    cli         `pathcast beside avro`

It is a process beside the workers and no option of theirs. A worker writes a forecast by copying digits into a template
that is compiled; it builds no object that a library could encode, and an answer as Avro would cost it one for each
ping. Here it costs another core, the worker waits for nobody's registry, and subscribers get both formats.
"""
