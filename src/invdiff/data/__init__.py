"""From pictures with captions to samples."""
