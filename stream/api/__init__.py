"""The HTTP API (`pathcast serve`): questions about entities, answered from the states that workers store, and a live
feed of their newest forecasts. It runs beside the workers, writes nothing, and asks Redis with few connections.

cli          the options of `pathcast serve`
options      settings of `pathcast serve` and `pathcast map`
process      one process with one address, which serves the API, the map, or both
service      the parts of the API
messages     what is asked and answered, as types
events       the messages of the live feed, errors, health
operations   every operation: its path, parameters, body, answers and errors
openapi      the OpenAPI document, from these two
handlers     answers each operation
metrics      the metrics of requests
http         the server: access, limits, errors, requests into types
answers      answers from stored states, and from tracks that are sent
live         the newest forecast of each entity in memory, and the clients that watch it; reading topics
trips        trips under way as GTFS-Realtime
map          the live map (`pathcast map`)
"""
