"""Figures of samples: parity, distances, precision and recall, diversity."""
