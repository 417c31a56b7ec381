"""`invdiff evaluate A B`: two folders of pictures, or of two pipelines that draw them first."""

import shlex
from pathlib import Path

from invdiff.app.cli.options import TWO_FOLDERS, TWO_PIPELINES, Options
from invdiff.app.cli.parser import Asked
from invdiff.app.cli.runs import one_stage
from invdiff.data.sets import builtin
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.common import has_text, wrong_classes
from invdiff.errors import DataError


def evaluate(asked: Asked) -> None:
    """Measure two folders, or do the stage of a run if none are named."""
    asked.run = None
    if len(asked.folders) == 1 and RunFolder.is_run(asked.folders[0]):
        asked.run = Path(asked.folders.pop())
    asked.stop_at(*_problems(asked))
    if not asked.folders:
        one_stage(asked)
        return
    from invdiff.app.comparison.evaluate_folders import evaluate_folders
    from invdiff.app.comparison.sheets import sheet_text, sheets

    options = {name: getattr(asked, name) for name in _given(asked, TWO_FOLDERS).values()}
    again = shlex.join(["invdiff", *asked.typed])
    first, second = drawn(asked)
    record = evaluate_folders(first, second, asked.out, **options, processes=0, command=again)
    for sheet in sheets(record):
        print(sheet_text(sheet), end="\n\n")
    for text in record["warnings"] + record["not_measured"]:
        print(f"note: {text}")
    print(f"report: {asked.out / 'report.html'}")


def _problems(asked: Asked) -> list[str]:
    """What is wrong with the words: options without folders, settings with them."""
    if not asked.folders:
        names = ", ".join(_given(asked, TWO_FOLDERS, TWO_PIPELINES))
        told = f"{names}: for two folders, as in `invdiff evaluate A B --out DIR`"
        return [told] if names else []
    if len(asked.folders) != 2:
        found = [f"evaluate takes two folders, not {len(asked.folders)}; or one, that is a run"]
    else:
        found = _problems_of_pipelines(asked)
    if asked.out is None:
        found.append("--out DIR is needed: the folder for the page and the tables")
    if asked.config or asked.preset or asked.overrides or asked.redo:
        found.append(
            "settings, --config, --preset and --redo are for a run: two folders have options of "
            "their own"
        )
    classes = asked.classes or []
    if not has_text(classes):
        found.append('--classes: must be lines like "female = a photo of a woman"')
    elif problem := wrong_classes(asked.classifier or "", classes):
        found.append(f"--classes: {problem}")
    return found


def _given(asked: Asked, *tables: Options) -> dict[str, str]:
    """The options of the tables that were given, each with the attribute that has its value."""
    found = {}
    for key, entry in (item for table in tables for item in table.items()):
        name = key.split()[0]
        found[name] = name.lstrip("-").replace("-", "_")
        if not isinstance(entry, str) and "dest" in entry:
            found[name] = entry["dest"]
    return {name: of for name, of in found.items() if getattr(asked, of) is not None}


def _problems_of_pipelines(asked: Asked) -> list[str]:
    """Pipelines without prompts, options without pipelines."""
    drawing = [is_pipeline(path) for path in asked.folders]
    if not any(drawing):
        names = ", ".join(_given(asked, TWO_PIPELINES))
        return [f"{names}: for pipelines, and neither of both is one"] if names else []
    found = []
    if asked.prompts is None:
        found.append("--prompts FILE is needed to draw with a pipeline: text, a prompt a line")
    if asked.adapter is not None and not drawing[-1]:
        found.append(f"--adapter is for a pipeline, and {asked.folders[-1]} is none")
    if asked.strength is not None and asked.adapter is None:
        found.append("--strength is that of --adapter, which is not given")
    return found


def is_pipeline(path: str) -> bool:
    """Whether ``path`` is a pipeline in diffusers format or a built-in name; DataError for both."""
    name = builtin.resolve_name(path)
    return name in builtin.SETS or (Path(name).expanduser() / "model_index.json").is_file()


def drawn(asked: Asked) -> list[str]:
    """The two folders, drawn into ``--out`` where a pipeline was given.

    Raises:
        DataError: the file of the prompts cannot be read or has none.
    """
    if not any(map(is_pipeline, asked.folders)):
        return list(asked.folders)
    from invdiff.engine.comparison.drawn import Pipeline, Wanted, draw_folder
    from invdiff.model.lora.adapter_file import read_settings

    wanted = Wanted(
        read_prompts(asked.prompts),
        images=asked.images_per_prompt or 100,
        scale=asked.scale or 7.5,
        steps=asked.steps or 30,
        seed=asked.seed_of_pictures or 0,
    )
    strength = asked.strength
    if strength is None and asked.adapter is not None:
        strength = read_settings(asked.adapter).get("recommended_strength")
    strength = 1.0 if strength is None else strength
    folders = []
    for path, adapter, name in zip(
        asked.folders, (None, asked.adapter), ("first", "second"), strict=True
    ):
        if is_pipeline(path):
            pipeline = Pipeline(builtin.resolve_name(path), adapter, strength)
            path = str(draw_folder(pipeline, wanted, asked.out / "drawn" / name))
        folders.append(path)
    return folders


def read_prompts(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty, each once; DataError without any."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a text file of prompts: {error}") from None
    found = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not found:
        raise DataError(f"{path} has no prompts: give one a line")
    return found
