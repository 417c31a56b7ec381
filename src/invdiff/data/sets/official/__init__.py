"""The benchmark sets of the paper, from the archives of their makers."""
