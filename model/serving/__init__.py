"""The network as it is served, without torch: one step per ping for many entities, with their key/value caches.

`model.api.Predictor` is the entry point. Files that end in `_compiled` are fast versions of definitions in
`model.network`, `model.kinematics` and `model.atlas`; the tests hold each to its definition.

    folding              folds fixes into the states of a pool
    answers              forecasts and gap fills: their types, and how each is computed
    state_pool           the states of all entities in memory
    kv_cache             KvCache: keys and values of the last pings, in ring buffers
    state_codec          converts a state to bytes and back
    layers               the layers, exact or fast
    modules              the network's modules as functions of arrays, for exact layers and gap fills
    step_compiled        updates a state with a ping
    forecast_compiled    computes a forecast from a state
    passages             asks an atlas: moves forecasts and gap fills to where passages went
    making               makes a version of an atlas, and examines it beside a model
    gapfill_compiled     computes the positions inside a gap
    gaps                 gaps and fills as `stream` passes them, and the ends of gaps
"""
