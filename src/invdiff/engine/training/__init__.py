"""The stage that trains the guidance."""
