"""The benchmark: rows, suites and tables."""
