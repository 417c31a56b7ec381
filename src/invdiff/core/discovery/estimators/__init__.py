"""Whole estimators of groups, one a file, chosen by name."""
