"""Evening out a training set with pictures of the guided model."""
