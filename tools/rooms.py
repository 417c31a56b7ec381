"""The rooms of the package: folders with their number of files, largest file and lines.

python tools/rooms.py            # prints the table
python tools/rooms.py --write    # puts it into docs/contributing.md
"""

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/invdiff"
PAGE = ROOT / "docs/contributing.md"
BEGIN, END = "<!-- rooms:begin -->", "<!-- rooms:end -->"


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def purpose(folder: Path) -> str:
    """The first line of the folder's docstring, up to its colon or full stop."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".") if text else ""


def table(package: Path = PACKAGE) -> str:
    """One row for each folder with code, and the sum of all."""
    rows = ["| folder | what is there | files | largest file | lines |", "|---|---|---:|---|---:|"]
    total_files = total_lines = 0
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        sizes = {path.name: lines_of(path) for path in sorted(folder.glob("*.py"))}
        largest = max(sizes, key=lambda name: sizes[name])
        lines = sum(sizes.values())
        name = folder.relative_to(package).as_posix()
        label = "invdiff" if name == "." else f"{name}/"
        rows.append(
            f"| `{label}` | {purpose(folder)} | {len(sizes)} | `{largest}` {sizes[largest]} "
            f"| {lines:,} |"
        )
        total_files, total_lines = total_files + len(sizes), total_lines + lines
    return "\n".join([*rows, f"| all | | {total_files} | | {total_lines:,} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    if not parser.parse_args().write:
        print(table())
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
