"""The method on arrays and tensors, without a run folder."""
