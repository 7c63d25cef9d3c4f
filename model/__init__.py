"""The forecasting model, with no broker and no store: numpy and numba, and torch for training alone (`model.network`).
`stream` uses it through model.api.
"""
