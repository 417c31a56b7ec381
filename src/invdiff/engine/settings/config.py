"""One configuration for a whole run: TOML, overrides, and every mistake reported at once."""

import json
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from invdiff.engine.settings.common import (
    EMBEDDED_SETS,
    CalibrateSection,
    DataSection,
    ModelSection,
    SampleSection,
    Section,
)
from invdiff.engine.settings.discovery import DiscoverSection
from invdiff.engine.settings.evaluation import EvaluateSection, impossible
from invdiff.engine.settings.messages import describe_problem
from invdiff.engine.settings.names import formerly, nearest, translated
from invdiff.engine.settings.study import SEVERAL, StudySection
from invdiff.engine.settings.training import TrainSection
from invdiff.errors import ConfigError, InvDiffWarning

PRESETS = Path(str(files("invdiff"))) / "presets"
HIDDEN = "study."


class Config(Section):
    """All settings of a run. Build it with :func:`load`, :func:`preset` or :func:`parse`."""

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of every random draw of the run.")
    processes: int = Field(
        0, ge=0, le=256,
        description="Worker processes; 0 is 2 for the command on a CPU of several cores, else 1.",
    )  # fmt: skip
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    discover: DiscoverSection = DiscoverSection()
    train: TrainSection = TrainSection()
    calibrate: CalibrateSection = CalibrateSection()
    sample: SampleSection = SampleSection()
    evaluate: EvaluateSection = EvaluateSection()
    study: StudySection = StudySection()

    @property
    def estimator(self) -> str:
        """How groups are found: a comparison's own estimator, or the user's."""
        return self.study.estimator or self.discover.estimator

    @model_validator(mode="after")
    def _possible(self) -> Self:
        embedded = self.data.path in EMBEDDED_SETS
        if self.estimator == "labels" and not self.data.label_column and not embedded:
            raise ValueError(
                'data.label_column: discover.estimator = "labels" needs it; name the metadata '
                "column that holds the labels"
            )
        if len(self.discover.target) > 2 and self.estimator not in SEVERAL:
            raise ValueError(
                f"discover.target: the estimator {self.estimator} infers two groups; more come "
                f"from {' or '.join(SEVERAL)}"
            )
        self._possible_prompt_groups(embedded)
        if problem := impossible(self.evaluate, self.data.path):
            raise ValueError(problem)
        train = self.train
        processes = max(1, train.processes)
        parts = train.gradient_accumulation_steps
        if processes * parts > train.batch_size:
            raise ValueError(
                f"train.gradient_accumulation_steps: {processes} processes in {parts} parts each "
                f"leave no image of a batch of {train.batch_size} for each part; lower one of them"
            )
        return self

    def _possible_prompt_groups(self, embedded: bool) -> None:
        way, column = self.data.prompt_groups, self.data.group_column
        if way == "column" and not column:
            raise ValueError(
                'data.group_column: data.prompt_groups = "column" needs it; name the metadata '
                "column that holds the groups"
            )
        if column and way not in ("auto", "column"):
            raise ValueError(
                f'data.group_column: data.prompt_groups = "{way}" does not read it; leave one out'
            )
        for name in ("group_column", "quarantine"):
            if embedded and getattr(self.data, name):
                raise ValueError(f"data.{name}: is for data of your own; leave it out")


def fields() -> Iterator[tuple[str, Any]]:
    """Every key of a user with its pydantic field, as ``("train.steps", FieldInfo)``."""
    for key, info in _all_fields():
        if not key.startswith(HIDDEN):
            yield key, info


def _all_fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _all_fields(info.annotation, f"{name}.")
        else:
            yield prefix + name, info


def flatten(config: Config) -> dict[str, Any]:
    """Every key with its value, as ``{"train.steps": 100, ...}``."""
    found: dict[str, Any] = {}
    for name, value in config.model_dump().items():
        nested = value if isinstance(value, dict) else None
        found |= {name: value} if nested is None else {f"{name}.{k}": v for k, v in nested.items()}
    return found


def load(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then the TOML file at ``path``, then overrides such as ``train.steps=100``.

    Raises ConfigError with every problem of the file and of the overrides together.
    """
    try:
        values = _read(Path(path)) if path is not None else {}
    except ConfigError as unreadable:
        return _checked({}, overrides, unreadable.problems)
    return _checked(values, overrides)


def load_run(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of an existing run from its ``config.toml``.

    Settings that an earlier version called otherwise are read, with a warning that says so.

    Raises:
        ConfigError: as :func:`load`, and where the run has a setting that is no more.
    """
    values = _read(path)
    renamed, problems = translated(values)
    if renamed:
        told = f"{path} has earlier names of settings; read as: {', '.join(renamed)}"
        warnings.warn(told, InvDiffWarning, stacklevel=1)  # one place: it is said once
    return _checked(values, overrides, problems)


def parse(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The configuration of nested ``values``; raises ConfigError with every problem."""
    copied = {key: dict(v) if isinstance(v, Mapping) else v for key, v in values.items()}
    return _checked(copied, overrides)


def preset_names() -> list[str]:
    """The names that :func:`preset` knows."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    """The file of the preset ``name``."""
    known = preset_names()
    if name not in known:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(known)}")
    return PRESETS / f"{name}.toml"


def preset(name: str, overrides: Sequence[str] = ()) -> Config:
    """The preset ``name`` with overrides."""
    return load(preset_path(name), overrides)


def dump(config: Config, comments: bool = False) -> str:
    """TOML text that :func:`load` reads back as the same configuration.

    What only comparisons change is there where it was changed.
    """
    values, usual, lines, open_section = flatten(config), flatten(Config()), [], ""
    for key, info in _all_fields():
        if key.startswith(HIDDEN) and values[key] == usual[key]:
            continue
        section, _, name = key.rpartition(".")
        if section != open_section:
            lines += ["", f"[{section}]"]
            open_section = section
        if comments:
            lines.append(f"# {info.description}")
        lines.append(f"{name} = {_toml(values[key])}")
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """JSON schema of the configuration."""
    whole = Config.model_json_schema()
    del whole["properties"]["study"], whole["$defs"]["StudySection"]
    return whole


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: --config takes a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: --config takes a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _checked(
    values: dict[str, Any], overrides: Sequence[str], problems: Sequence[str] = ()
) -> Config:
    problems = [*problems, *filter(None, [_override(values, text) for text in overrides])]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _problems(error)
        # What is impossible together shows only when each value is possible by itself.
        for found in error.errors():
            _drop(values, found["loc"])
        try:
            Config.model_validate(values)
        except ValidationError as second:
            problems += [p for p in _problems(second) if p not in problems]
    if problems:
        raise ConfigError(problems)
    return config


def _override(values: dict[str, Any], text: str) -> str | None:
    """Put ``section.key=value`` into ``values``; the problem, if there is one."""
    key, equals, value = text.partition("=")
    if not equals:
        return f"--{key}: needs a value, as in --{key} VALUE"
    known = dict(_all_fields())
    if key not in known:
        near = nearest(key, [one for one, _ in fields()], "--")
        return formerly(key, "--") or f"--{key}: no such setting{near}"
    holder = values
    *sections, name = key.split(".")
    for section in sections:
        holder = holder.setdefault(section, {})
        if not isinstance(holder, dict):
            return None  # the file's own mistake, reported with the file
    holder[name] = _value(value, as_text=known[key].annotation is str)
    return None


def _value(text: str, as_text: bool) -> Any:
    """``text`` as a TOML value if it is one (and not meant as text), else as it stands."""
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text
    return text if as_text and not isinstance(value, str) else value


def _problems(error: ValidationError) -> list[str]:
    known = [key for key, _ in fields()]
    problems = []
    for found in error.errors():
        key = ".".join(str(part) for part in found["loc"])
        if found["type"] == "extra_forbidden":
            sections = [name for name in Config.model_fields if name != "study"]
            near = nearest(key, known if "." in key else sections + known)
            problems.append(formerly(key) or f"{key}: no such setting{near}")
        else:
            problems.append(describe_problem(found))
    return list(dict.fromkeys(problems))


def _drop(values: dict[str, Any], loc: tuple[int | str, ...]) -> None:
    """Forget the key at ``loc``, so that its default stands in."""
    holder: Any = values
    for part in loc[:1]:
        if len(loc) > 1 and isinstance(holder.get(part), dict):
            holder = holder[part]
            loc = loc[1:]
    if loc:
        holder.pop(loc[0], None)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON escapes are TOML's, but for the one control character that JSON leaves alone.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
