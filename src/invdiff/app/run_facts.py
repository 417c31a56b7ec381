"""What is worth knowing of a run at a glance, for its `repr` and for notebooks."""

from collections.abc import Iterator
from html import escape

from invdiff.engine.run.folder import RunFolder
from invdiff.engine.run.stages import STAGES
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.config import Config
from invdiff.errors import RunError

MOST_SETTINGS = 8

Facts = list[tuple[str, str]]


def facts(run: RunFolder) -> Facts:
    """Names with what there is to say: stages, settings, groups, Bias, report.

    Only what finished stages have written is opened.
    """
    done = [stage for stage in STAGES if run.done(stage)]
    left = [stage for stage in STAGES if stage not in done]
    found = [("done", ", ".join(done) or "nothing yet")]
    if left:
        found.append(("next", left[0]))
    found.append(("settings", _settings(run.config)))
    try:
        return [*found, *_results(run)]
    except RunError as error:
        return [*found, ("problem", str(error))]


def facts_text(run: RunFolder) -> str:
    """The facts below each other."""
    lines = [f"  {name + ':':10}{_indented(value)}" for name, value in facts(run)]
    return "\n".join([f"Run({str(run.path)!r})", *lines])


def facts_html(run: RunFolder) -> str:
    """The facts as a table."""
    rows = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{escape(name)}</th>'
        f'<td style="text-align:left;white-space:pre-line">{escape(value)}</td></tr>'
        for name, value in facts(run)
    )
    return f"<table><caption>Run {escape(str(run.path))}</caption>{rows}</table>"


def _settings(config: Config) -> str:
    """Those that differ from the defaults."""
    plain = configuration.flatten(Config())
    changed = {k: v for k, v in configuration.flatten(config).items() if v != plain[k]}
    told = [f"{key} = {value!r}" for key, value in changed.items()]
    more = [f"and {len(told) - MOST_SETTINGS} more"] if len(told) > MOST_SETTINGS else []
    return "\n".join([*told[:MOST_SETTINGS], *more]) or "the defaults"


def _results(run: RunFolder) -> Iterator[tuple[str, str]]:
    from invdiff.app import results  # NumPy and torch, not before there is something to read

    for stage in filter(run.done, STAGES):
        run.require(stage, by="repr")
    if run.done("discover") and (run.path / "discovery.json").is_file():
        yield "groups", repr(results.RunGroups.read(run.path))
    if run.done("evaluate"):
        yield "metrics", repr(results.RunMetrics.read(run.path))
    if run.done("report"):
        yield "report", str(run.path / "report.html")


def _indented(value: str) -> str:
    return value.replace("\n", "\n" + " " * 12)
