"""From a corpus to batches: which rows are drawn, how they are varied, masked and packed."""
