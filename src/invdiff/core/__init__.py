"""The method as plain functions on arrays and tensors: no files, no devices, no printing."""
