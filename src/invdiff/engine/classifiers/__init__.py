"""Attribute classifiers: choosing, learning, applying, and their measured error."""
