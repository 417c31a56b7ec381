"""The benchmark: rows, suites and tables."""

from importlib.util import find_spec

from invdiff.errors import MissingExtra

EXTRA = ("pandas", "tabulate")


def require_extra() -> None:
    """MissingExtra unless the libraries of the tables are installed."""
    for library in EXTRA:
        if find_spec(library) is None:
            raise MissingExtra(library, "benchmark")
