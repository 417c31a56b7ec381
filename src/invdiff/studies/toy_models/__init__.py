"""The small base models of the built-in sets, and how they are trained."""
