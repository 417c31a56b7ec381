"""The benchmark of the method on every built-in set: which groups are found, and what they do."""
