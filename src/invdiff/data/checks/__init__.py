"""What is looked at before a set is used: unreadable, empty, near-equal pictures."""
