"""Write docs/reference/settings.md and docs/reference/cli.md from the code.

    python tools/reference_pages.py           # writes both
    python tools/reference_pages.py --check   # writes nothing; exit code 1 if one is not current

Settings come from the pydantic fields: those that `invdiff config` prints. The help texts come from
docs/cli-help/, which the tests compare with the parser itself.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.schema import Config

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference"
HELP = ROOT / "docs/cli-help"

SETTINGS = """# Settings

Every setting of a run, written by `python tools/reference_pages.py` from the code; `invdiff config`
prints the same with the values of a preset or of a file. {count} settings in all. The defaults are
for the small embedded model; a preset (`--preset sd15`) is the base for others. Put
what differs from it into a TOML file, one table for each section, and give that with `--config`; or
give single ones on the command line, as in `--train.steps 600`. A name that does not exist is
refused, with the nearest one that does.

Noise levels are fractions of the schedule: 0 is clean, 1 is pure noise.
"""

CLI = """# Command line

The help of every command, as `--help` prints it. Each takes settings as well, such as
`--train.steps 600` ([all of them](settings.md)), where its last lines say so.
"""


def settings_page() -> str:
    """A table of settings for each section."""
    defaults = tomllib.loads(configuration.dump(Config()))
    rows = {"": {k: v for k, v in defaults.items() if not isinstance(v, dict)}}
    rows |= {name: section for name, section in defaults.items() if isinstance(section, dict)}
    schema = configuration.schema()
    parts = [SETTINGS.format(count=sum(map(len, rows.values())))]
    for section, values in rows.items():
        if values:
            parts.append(_section(section, values, schema))
    return "\n".join(parts)


def _section(section: str, defaults: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    described: Mapping[str, Any] = schema
    lines = ["## For all stages", ""]
    if section:
        described = schema["$defs"][schema["properties"][section]["$ref"].split("/")[-1]]
        lines = [f"## {section}", "", described["description"].splitlines()[0], ""]
    lines += ["| setting | values | default | meaning |", "|---|---|---|---|"]
    prefix = f"{section}." if section else ""
    for name, default in defaults.items():
        known = described["properties"][name]
        shown = json.dumps(default, ensure_ascii=False)
        meaning = known["description"].replace("|", "\\|")
        lines.append(f"| `{prefix}{name}` | {_values(known)} | `{shown}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _values(known: Mapping[str, Any]) -> str:
    """The type and range of a field of a JSON schema, in words."""
    if "anyOf" in known:
        return " or ".join(_values(each) for each in known["anyOf"])
    if choices := known.get("enum", [known["const"]] if "const" in known else []):
        return ", ".join(f"`{json.dumps(choice)}`" for choice in choices)
    kind = known["type"]
    if kind == "array":
        return f"list of: {_values(known['items'])}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": ""}[kind]
    return f"{words}{_range(known)}" or "`true`, `false`"


def _range(known: Mapping[str, Any]) -> str:
    whole = known["type"] == "integer"
    told = []
    if "minimum" in known:
        told.append(f"from {known['minimum']:g}")
    if "exclusiveMinimum" in known:
        told.append(f"above {known['exclusiveMinimum']:g}")
    if "maximum" in known:
        told.append(f"to {known['maximum']:g}")
    if (end := known.get("exclusiveMaximum")) is not None:
        told.append(f"to {end - 1:,}" if whole else f"below {end:g}")
    return ", " + " ".join(told) if told else ""


def cli_page() -> str:
    """The help text of each command, in the order in which `invdiff --help` names them."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in HELP.glob("*.txt")}
    verbs = re.findall(r"^    ([a-z]\w*)", texts["invdiff"], re.M)
    order = ["invdiff"]
    for verb in verbs:
        order += [verb, *sorted(name for name in texts if name.startswith(f"{verb}-"))]
    parts = [CLI]
    for name in order:
        words = name.replace("-", " ")
        title = words if name == "invdiff" else f"invdiff {words}"
        parts.append(f"## {title}\n\n```text\n{texts[name].rstrip()}\n```\n")
    return "\n".join(parts)


PAGES = {"settings.md": settings_page, "cli.md": cli_page}


def main() -> int:
    """Write the pages, or say which are not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    old = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if old:
        print("not current:" if check else "written:", ", ".join(old))
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
