"""Intervals: test inversion, bootstrap, errors of a classifier."""
