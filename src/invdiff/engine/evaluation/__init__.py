"""The stage that measures the samples."""
