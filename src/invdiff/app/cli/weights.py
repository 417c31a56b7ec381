"""`invdiff weights`: fetch, check and list the weights that figures are made with."""

import argparse
from pathlib import Path

WORDS = "weights of extractors: fetch, verify or list them"
MORE = (
    "Nothing is downloaded unless it is fetched here. A hash that is not published is recorded at "
    "the first fetch. The folder is $INVDIFF_WEIGHTS, else in the user's cache."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "task", choices=("fetch", "verify", "list"), metavar="TASK", help="fetch, verify or list"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="names of `invdiff weights list`")
    parser.add_argument(
        "--mirror", default="", metavar="PLACE", help="folder or address to fetch from instead"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder of the weights")


def weights(asked: argparse.Namespace) -> None:
    """Do it. ModelError if a file is missing or not the known one."""
    from invdiff.engine.comparison import known_weights as engine

    place = asked.to or engine.folder()
    if asked.task == "list":
        _list(place)
    elif asked.task == "fetch":
        for name in asked.names:
            engine.known_weights(name)
        for name in asked.names:
            for path in engine.fetch(name, place, asked.mirror):
                print(path)
    else:
        _verify(asked.names, place)


def problems(asked: argparse.Namespace) -> list[str]:
    """Fetching needs names, and only fetching has a mirror."""
    if asked.task == "fetch" and not asked.names:
        return ["weights fetch needs a name (see `invdiff weights list`)"]
    return ["--mirror belongs to weights fetch"] if asked.mirror and asked.task != "fetch" else []


def _list(place: Path) -> None:
    from invdiff.engine.comparison.known_weights import WEIGHTS

    print(f"folder: {place}")
    for name, known in WEIGHTS.items():
        there = all((place / file).is_file() for file, _, _ in known.files)
        pinned = "published" if all(digest for _, _, digest in known.files) else "recorded"
        state = "here" if there else "not here"
        print(f"  {name:22} {state:9} hash {pinned}  {known.licence:13} {known.use}")


def _verify(names: list[str], place: Path) -> None:
    from invdiff.engine.comparison.known_weights import WEIGHTS, verify
    from invdiff.errors import ModelError

    bad = []
    for name in names or list(WEIGHTS):
        found = list(verify(name, place))
        if not names and all(one.state == "missing" for one in found):
            continue
        for one in found:
            print(f"  {one.state:8} {one.name}  {one.sha256[:12]}")
            if one.state != "good":
                bad.append(f"{one.name} is {one.state}")
    if bad:
        raise ModelError(f"{'; '.join(bad)}: fetch it again with `invdiff weights fetch`")
