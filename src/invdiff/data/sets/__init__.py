"""Data sets by name: built-in ones, and readers of benchmarks' official archives."""
