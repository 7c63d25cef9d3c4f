"""The forecasting model: torch and numpy, no broker and no store. Other packages use it through model.api."""
