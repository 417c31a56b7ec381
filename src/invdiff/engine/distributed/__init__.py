"""Several processes, stop signals, and who owns which random draw."""
