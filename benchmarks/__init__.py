"""What InvDiff costs, measured on the machine that this runs on: ``python -m benchmarks``."""
