"""Readers of files and other objects as `RawGraphs`, and their packing."""
