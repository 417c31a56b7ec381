"""Two folders of pictures, measured: `invdiff evaluate A B` and ``invdiff.evaluate_folders``."""
