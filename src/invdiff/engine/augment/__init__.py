"""A training set in which the inferred groups of each prompt are even, with the guided sampler."""
