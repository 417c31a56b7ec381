"""One reader for each way in which people keep captioned pictures."""
