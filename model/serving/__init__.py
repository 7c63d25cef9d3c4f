"""The network as it is served: one step per ping for many entities, with their key/value caches.

`model.api.Predictor` is the way in. Files that end in `_compiled` are fast twins of definitions in `model.network` and
`model.kinematics`; tests hold each to its definition.

    state_pool           the states of all entities in memory
    kv_cache             KvCache: keys and values of the last pings, in rings
    state_codec          a state to bytes and back
    layers               the layers, in torch or compiled
    step_compiled        a ping into a state
    forecast_compiled    a state into a forecast
    gapfill_compiled     two states into the path between them
    gaps                 what is asked of a gap
"""
