"""Door: to be written."""
