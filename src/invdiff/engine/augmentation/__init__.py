"""Evening out a training set with pictures of the adapted model."""
