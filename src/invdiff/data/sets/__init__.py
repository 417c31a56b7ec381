"""Embedded data sets, one file a set."""
