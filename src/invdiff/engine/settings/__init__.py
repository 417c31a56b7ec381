"""The settings of a run: their types, ranges, defaults and errors."""
