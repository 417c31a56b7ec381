"""Classifiers trained with and without added pictures."""
