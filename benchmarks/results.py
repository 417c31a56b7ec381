"""``results.json`` and the page that is made of it."""

from pathlib import Path
from typing import Any

from invdiff.engine.run.environment import environment
from invdiff.engine.storage.files import read_json, write_json, write_text

HEAD = """# Results of the benchmarks

Made by `python -m benchmarks`. Seconds are medians with their range over repeats; sides of a
comparison took turns in one process on one thread. Peaks are those of a process of its own, its
libraries included.
"""


def read(path: Path) -> dict[str, Any]:
    """What was measured so far, by part."""
    found: dict[str, Any] = read_json(path) if path.is_file() else {"parts": {}}
    return found


def keep(folder: Path, results: dict[str, Any], name: str, found: dict[str, Any]) -> None:
    """Add one part, with where and when it was measured, and write both files."""
    results["parts"][name] = found
    results["environment"] = environment()
    write_json(folder / "results.json", results)
    write_text(folder / "RESULTS.md", page(results))


def page(results: dict[str, Any]) -> str:
    """The page."""
    lines = [HEAD]
    for name, found in results["parts"].items():
        lines += [f"## {name}", "", found["about"], ""]
        if found["quick"]:
            lines += ["**Quick run: these figures mean nothing.**", ""]
        lines += [f"- {line}" for line in _lines(found["found"])]
        lines += [""]
    machine = results["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    lines += ["## Where", "", f"{machine['platform']}, {machine['processors']} processors, "]
    lines += [f"Python {machine['python']}, {versions}.", ""]
    return "\n".join(lines)


def _lines(values: dict[str, Any], before: str = "") -> list[str]:
    lines = []
    for name, value in values.items():
        label = f"{before}{name}"
        if name == "sides":
            lines += _lines(value, before)
        elif isinstance(value, dict) and "median" in value:
            lines.append(f"{label}: {_span(value)}")
        elif isinstance(value, dict):
            lines += _lines(value, f"{label}, ")
        elif "bytes" in name or name == "theirs":
            lines.append(f"{label}: {value:,}")
        else:
            lines.append(f"{label}: **{value}**" if " / " in name else f"{label}: {value}")
    return lines


def _span(value: dict[str, Any]) -> str:
    return (
        f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g}, "
        f"{value['repeats']} repeats)"
    )
