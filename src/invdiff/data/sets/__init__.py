"""Data sets by name: embedded ones, and readers of benchmarks' official archives."""
