"""One module per experiment; `pathcast experiment NAME` runs it and writes its report."""
