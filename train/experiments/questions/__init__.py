"""One module per experiment; `pathcast train experiment NAME` runs it and writes its report."""
