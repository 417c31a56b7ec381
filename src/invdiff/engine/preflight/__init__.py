"""Before a run: what it will do, what memory it needs, what is missing."""
