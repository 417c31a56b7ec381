"""What is made of a comparison of two folders: tables, prose, one page."""
