"""The report of a run: one HTML file, and the model card."""
