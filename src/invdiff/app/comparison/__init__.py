"""Two folders of pictures, or two models, measured side by side: the page and the files."""
