"""The guidance on a stock pipeline: attach, detach, strength and window."""
