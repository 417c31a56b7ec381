"""The run folder: whose settings, what is done, what must be done again."""
