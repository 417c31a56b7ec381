"""What people meet: the command line, the report, the Python interface."""
