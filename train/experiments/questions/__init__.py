"""One module for each experiment; `pathcast experiment NAME` runs it and writes its report."""
