"""`invdiff weights`: fetch, check and list the weights that figures are made with."""

from pathlib import Path

from invdiff.app.cli.parser import Asked
from invdiff.engine.comparison import known_weights as known
from invdiff.errors import ConfigError, ModelError


def weights(asked: Asked) -> None:
    """Do it. ModelError if a file is missing or not the known one."""
    if asked.task == "fetch" and not asked.names:
        raise ConfigError("weights fetch needs a name (see `invdiff weights list`)")
    if asked.task != "fetch" and asked.mirror:
        raise ConfigError("--mirror belongs to weights fetch")
    place = asked.to or known.folder()
    if asked.task == "list":
        _list(place)
    elif asked.task == "fetch":
        for name in asked.names:
            known.known_weights(name)
        for name in asked.names:
            for path in known.fetch(name, place, asked.mirror):
                print(path)
    else:
        _verify(asked.names, place)


def _list(place: Path) -> None:
    print(f"folder: {place}")
    for name, one in known.WEIGHTS.items():
        there = all((place / file).is_file() for file, _, _ in one.files)
        pinned = "published" if all(digest for _, _, digest in one.files) else "recorded"
        state = "here" if there else "not here"
        print(f"  {name:22} {state:9} hash {pinned}  {one.licence:13} {one.use}")


def _verify(names: list[str], place: Path) -> None:
    bad = []
    for name in names or list(known.WEIGHTS):
        found = list(known.verify(name, place))
        if not names and all(one.state == "missing" for one in found):
            continue
        for one in found:
            print(f"  {one.state:8} {one.name}  {one.sha256[:12]}")
            if one.state != "good":
                bad.append(f"{one.name} is {one.state}")
    if bad:
        raise ModelError(f"{'; '.join(bad)}: fetch it again with `invdiff weights fetch`")
