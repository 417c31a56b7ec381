"""The families of pipelines, and the table that says which class goes to which."""
