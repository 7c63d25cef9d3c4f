"""Kafka's record format: many records as columns of bytes, so that Python makes no object for each.

record_columns    Records: the records of a fetch in columns
record_batches    reads many small record batches together
encoded_batches   EncodedBatch: answers in Kafka's record format
columns           BytesColumn: many byte strings in one buffer
decompression     decompression that stops at a limit
"""
