"""Files of the adapter for other programs, and the hub."""
