"""What a run was made from, and whether it is still that: its data and its base model.

The record of discover holds hashes of both. Data or weights that were changed in place would else
be answered with "done before", or balanced by groups of other pictures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invdiff.data.fingerprint import KINDS, DataRequest, Fingerprint
from invdiff.data.samples import plural
from invdiff.engine.base_model.architecture import model_folder
from invdiff.engine.base_model.cache_keys import fingerprint
from invdiff.engine.run.results import Results
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import read_json
from invdiff.errors import DataError
from invdiff.model.sizing.single_file import is_single

LEFT_OUT = "quarantine.json"


def asked_of(config: Config) -> DataRequest:
    """What of the data the settings use."""
    data = config.data
    columns = data.prompt_column, data.group_column, data.label_column
    return DataRequest(data.path, *columns, data.quarantine)


def fingerprint_of_model(base_model: str | None) -> str:
    """A hash of the files of a model on this computer; "" for one that is not here."""
    if base_model and is_single(base_model):
        return fingerprint(Path(base_model).expanduser(), [])
    folder = model_folder(base_model) if base_model else None
    if folder is None:
        return ""
    parts = [path.name for path in folder.iterdir() if (path / "config.json").is_file()]
    return fingerprint(folder, [*parts, "scheduler", "tokenizer", "tokenizer_2", "tokenizer_3"])


def inputs_of(config: Config, base_model: str | None) -> dict[str, Any]:
    """The entry ``made_from`` of ``stages/discover.json``; no model for a pipeline object."""
    return {"data": asked_of(config).read().record(), "model": fingerprint_of_model(base_model)}


def changed(run: Path, known: Mapping[str, Any], config: Config, base_model: str | None) -> str:
    """What of the data and the model is other than in the record ``known``; "" if nothing is.

    What is not on this computer any more is not changed: results can be read without it.
    """
    asked, said = asked_of(config), []
    state = asked.state()
    if _is_there(asked) and known["data"]["state"] not in (state, ""):
        try:
            now = asked.read()
            if kinds := now.differs(known["data"]):
                said.append(f"{', '.join(kinds)} in {asked.path}{_names(run, now, kinds)}")
        except DataError as error:
            said.append(str(error))
    model = fingerprint_of_model(base_model) if known["model"] else ""
    if model and model != known["model"]:
        said.append(f"weights or settings of the model {base_model}")
    return "; ".join(said)


def _is_there(asked: DataRequest) -> bool:
    return any(Path(path).is_file() for path in asked.files())


def _names(run: Path, now: Fingerprint, kinds: list[str]) -> str:
    """How many pictures are others, with an example; "" where only other columns are."""
    if not set(kinds) & set(KINDS[:2]):
        return ""
    groups = Results(run).groups
    known = read_json(run / LEFT_OUT) if (run / LEFT_OUT).is_file() else []
    left = {name for name, _ in known}
    lost = [p for i, p in zip(groups.sample_id, groups.path, strict=True) if i not in now.ids]
    new = sorted({*now.ids.values()} - {*groups.path} - left)
    told = [
        f"{plural(len(names), 'picture')} {what}, such as {names[0]}"
        for what, names in (("with other content or caption, or gone", lost), ("new", new))
        if names
    ]
    return f" ({'; '.join(told)})" if told else ""
