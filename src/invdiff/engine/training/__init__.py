"""The min step from inside: the loop, its objective, its state, and what it tells meanwhile."""
