"""The forecasting model: torch and numpy, no broker and no store. Other packages come in through model.api."""
