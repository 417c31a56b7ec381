"""How the settings of a run come together: TOML, overrides, every mistake reported at once."""

import json
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from invdiff.data.sets import builtin
from invdiff.engine.settings.names import describe_problem, formerly, nearest, translated
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.seals import Seals
from invdiff.errors import ConfigError, DataError, InvDiffWarning

PRESETS = Path(str(files("invdiff"))) / "presets"
HIDDEN = "study."


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
    return {key: attrgetter(key)(config) for key, _ in _all_fields()}


def load(
    settings: Mapping[str, Any] | Path | str | None = None,
    overrides: Sequence[str] = (),
    preset: str | None = None,
) -> Config:
    """Defaults, the ``preset``, nested settings or a TOML file, overrides as ``train.steps=100``.

    What comes later counts. Raises ConfigError with every problem of all of them together.
    """
    values, problems = dict[str, Any](), list[str]()
    for given, find in ((preset, preset_path), (settings, Path)):
        try:
            more = given if isinstance(given, Mapping) else _read(find(str(given))) if given else {}
            more = resolved(more) if find is Path else more
        except ConfigError as unusable:
            problems += unusable.problems
            continue
        for key, value in more.items():
            held = values.get(key)
            if isinstance(held, dict) and isinstance(value, Mapping):
                value = {**held, **value}
            values[key] = value
    return _checked(values, overrides, problems)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """``config`` with some settings changed; its own paths are resolved already."""
    return _checked(config.model_dump(), overrides)


def load_run(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of an existing run from its ``config.toml``.

    Settings that an earlier version called otherwise are read, with a warning that says so.

    Raises:
        ConfigError: as :func:`load`, and where the run has a setting that is no more.
        RunError: the file is not what was written.
    """
    if path.is_file():
        Seals(path.parent).require_settings()
    values, renamed, problems = translated(_read(path))
    if renamed:
        told = f"{path} has earlier names of settings; read as: {', '.join(renamed)}"
        warnings.warn(told, InvDiffWarning, stacklevel=1)  # one place: it is said once
    return _checked(values, overrides, problems)


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a user with the paths of data and model as what they mean.

    Raises ConfigError for a name that means two things (see :func:`builtin.resolve_name`).
    """
    copied = {key: dict(v) if isinstance(v, Mapping) else v for key, v in values.items()}
    for key in ("data", "model"):
        section = copied.get(key)
        if isinstance(section, dict) and isinstance(section.get("path"), str | Path):
            try:
                section["path"] = builtin.resolve_name(section["path"], f"{key}.path")
            except DataError as problem:
                raise ConfigError(str(problem)) from None
    return copied


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
    return load(None, overrides, name)


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
            lines.append(f"# {' '.join(info.description.split())}")
        lines.append(f"{name} = {_toml(values[key])}")
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """JSON schema of the configuration."""
    whole: dict[str, Any] = json.loads(json.dumps(Config.model_json_schema()).replace("\\n", " "))
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
    if name == "path":
        try:
            holder[name] = builtin.resolve_name(holder[name], f"--{key}")
        except DataError as problem:
            return str(problem)
    return None


def _value(text: str, as_text: bool) -> Any:
    """``text`` as a TOML value if it is one (and not meant as text), else as it stands."""
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text
    return text if as_text and not isinstance(value, str) else value


def _problems(error: ValidationError) -> list[str]:
    keys = [key for key, _ in fields()]
    sections = [name for name in Config.model_fields if name != "study"]
    problems = []
    for found in error.errors():
        key = ".".join(map(str, found["loc"]))
        if found["type"] == "extra_forbidden":
            near = nearest(key, keys if "." in key else sections + keys)
            problems.append(formerly(key) or f"{key}: no such setting{near}")
        else:
            problems.append(describe_problem(found))
    return list(dict.fromkeys(problems))


def _drop(values: dict[str, Any], loc: tuple[int | str, ...]) -> None:
    """Forget the key at ``loc``, so that its default stands in."""
    if len(loc) > 1 and isinstance(values.get(str(loc[0])), dict):
        values, loc = values[str(loc[0])], loc[1:]
    if loc:
        values.pop(str(loc[0]), None)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON escapes are TOML's, but for the one control character that JSON leaves alone.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
