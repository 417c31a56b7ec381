"""Classifiers of a run: which one is meant, how it is trained, how often it is wrong."""
