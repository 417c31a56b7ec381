"""Benchmarks, toy models and baselines: what the method is studied with."""
