"""Sets that are made on the computer of the user."""
