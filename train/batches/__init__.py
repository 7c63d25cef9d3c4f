"""Turns a corpus into batches: draws the rows, augments, masks and packs them."""
