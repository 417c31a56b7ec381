"""The figures of a comparison as tables, once, for the terminal, the page, CSV and LaTeX."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from invdiff.app.report.words import Cell, Estimate, Table, count, number, percent, span

Figures = Sequence[Mapping[str, Any]]

DISTANCES = {
    "frechet": "Fréchet distance",
    "kid": "KID x 1000",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
}
EACH = {
    "diversity": "Diversity",
    "clip_t": "CLIP-T",
    "prompt_fidelity": "Prompt fidelity",
    "explicit_fidelity": "Fidelity where the prompt names the class",
    "explicit_kept": "Kept where the prompt names the class and the first set shows it",
}
BESIDE = {
    "normalised": "normalised",
    "corrected": "less chance",
    "error_corrected": "less errors of the classifier",
    "parity_value": "at parity",
}
SCALE = {"kid": 1000.0}
SHARES = ("share", "prompt_fidelity", "explicit_fidelity", "explicit_kept")


@dataclass(frozen=True)
class Entry:
    """One cell: an estimate (already scaled) and how it is written; ``detail`` after it."""

    estimate: Estimate = field(default_factory=lambda: Estimate(None))
    digits: int = 2
    as_percent: bool = False
    detail: str = ""

    @property
    def cell(self) -> Cell:
        """As the page writes it."""
        if self.estimate.value is None:
            return Cell("\N{EN DASH}")
        shown = percent if self.as_percent else number
        digits = 0 if self.as_percent else self.digits
        interval = span(self.estimate, digits, self.as_percent)
        return Cell(
            shown(self.estimate.value, digits), "; ".join(filter(None, (interval, self.detail)))
        )


@dataclass(frozen=True)
class Sheet:
    """One table: ``key`` names its files, every row is a label and an entry for each column."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    note: str

    @property
    def table(self) -> Table:
        """As the page has it."""
        rows = tuple((Cell(label), *(one.cell for one in entries)) for label, entries in self.rows)
        return Table(self.title, ("", *self.columns), rows, self.note)


def sheets(record: Mapping[str, Any]) -> list[Sheet]:
    """All tables for which something was measured."""
    figures: Figures = record["figures"]
    names = {of: facts["name"] for of, facts in record["sets"].items()}
    if len(set(names.values())) < len(names):
        names = {of: f"{name} ({of.upper()})" for of, name in names.items()}
    found = [*_distances(record, names), *_each(figures, names, record)]
    for attribute in dict.fromkeys(f["attribute"] for f in figures if f["figure"] == "share"):
        own = [f for f in figures if f.get("attribute") == attribute]
        found += [*_bias(own, attribute, names), _shares(own, attribute, names)]
    return found


def pick(figures: Figures, name: str, of: str, **where: Any) -> Mapping[str, Any] | None:
    """The first figure of this name and set that agrees with ``where``."""
    for figure in figures:
        if (figure["figure"], figure["of"]) == (name, of) and where.items() <= figure.items():
            return figure
    return None


def estimate(figure: Mapping[str, Any] | None, low: str = "low", high: str = "high") -> Estimate:
    """The value of a figure with one of its intervals, scaled as tables show it."""
    if figure is None:
        return Estimate(None)
    factor = SCALE.get(figure["figure"], 1.0)
    plain = Estimate.of({"value": figure["value"], "low": figure[low], "high": figure[high]})
    values = (plain.value, plain.low, plain.high)
    return Estimate(*(None if value is None else value * factor for value in values))


def _distances(record: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Sheet]:
    figures: Figures = record["figures"]
    several = len(record["extractors"]) > 1
    against = "reference" if "reference" in names else "a"
    if against == "reference":
        columns = {"a": names["a"], "b": names["b"], "a - b": "difference"}
    else:
        columns = {"b": names["b"]}
    rows = []
    for extractor in record["extractors"]:
        for name, label in DISTANCES.items():
            found = {of: pick(figures, name, of, extractor=extractor) for of in columns}
            if not any(found.values()):
                continue
            entries = [Entry(estimate(one), digits=_digits(name)) for one in found.values()]
            far = "low_over_prompts", "high_over_prompts"
            last = Entry(estimate(found["b"], *far), digits=_digits(name))
            if against == "a":
                entries.append(last if last.estimate.has_interval else Entry())
            rows.append((f"{label}, {extractor}" if several else label, tuple(entries)))
    head = tuple(columns.values()) + (("for prompts like these",) if against == "a" else ())
    shown = ", ".join(record["extractors"])
    note = (
        f"Features: {shown}. With 95% intervals: images are drawn again within their prompts, and "
        "for prompts like these whole prompts are. Distances: lower is closer; that of two sets "
        "that are alike is 0 for KID and above 0 for Fréchet. Precision, recall, coverage: 0 to 1; "
        "density may exceed 1. Intervals of recall and coverage are over the pictures that are "
        "compared with."
    )
    if rows:
        yield Sheet("distances", f"Compared with {names[against]}", head, tuple(rows), note)


def _digits(name: str) -> int:
    return {"frechet": 2, "kid": 2}.get(name, 3)


def _each(figures: Figures, names: Mapping[str, str], record: Mapping[str, Any]) -> Iterator[Sheet]:
    rows = []
    for name, label in EACH.items():
        for extractor in dict.fromkeys(
            f.get("extractor", "") for f in figures if f["figure"] == name
        ):
            where = {"extractor": extractor} if extractor else {}
            found = [pick(figures, name, of, **where) for of in ("a", "b", "a - b")]
            entries = tuple(
                Entry(estimate(one), digits=1 if name == "clip_t" else 3) for one in found
            )
            several = name == "diversity" and len(record["extractors"]) > 1
            rows.append((f"{label}, {extractor}" if several else label, entries))
    note = (
        "With 95% intervals. Diversity: mean distance of two pictures of one prompt in the "
        "features above (not LPIPS), 0 to 2. CLIP-T: 100 x cosine of picture and prompt. "
        "Fidelities: share of the pictures in which the classifier sees what the prompt says."
    )
    if rows:
        head = (names["a"], names["b"], "difference")
        yield Sheet("sets", "Of each set", head, tuple(rows), note)


def _bias(figures: Figures, attribute: str, names: Mapping[str, str]) -> Iterator[Sheet]:
    bias = [pick(figures, "bias", of) for of in ("a", "b", "a - b")]
    if bias[0] is None and bias[1] is None:
        return
    rows = [("Bias", tuple(Entry(estimate(one)) for one in bias))]
    for key, label in BESIDE.items():
        values = [Estimate.of(one or {}, key) for one in bias[:2]]
        if any(value.value is not None for value in values):
            plain = [Estimate(value.value) for value in values]
            if key == "error_corrected":
                plain = [
                    Estimate.of({k: (one or {}).get(f"{key}{e}") for k, e in ENDS.items()})
                    for one in bias[:2]
                ]
            rows.append((f"Bias, {label}", (*map(Entry, plain), Entry())))
    for name, label in (("off_target", "Distance from the target mix"), ("worst_prompt", "")):
        found = [pick(figures, name, of) for of in ("a", "b")]
        if any(found):
            where = [(one or {}).get("prompt", "") for one in found]
            entries = [
                Entry(estimate(one), detail=text) for one, text in zip(found, where, strict=True)
            ]
            rows.append((label or "Bias of the worst prompt", (*entries, Entry())))
    counts = [count((one or {}).get("images")) for one in bias[:2]]
    note = (
        f"{counts[0]} and {counts[1]} images. 0 is parity; normalised, 1 is one class only. Less "
        "chance: without what so few images add. At parity: what a balanced sampler shows with as "
        "many. Prompts that name a class are left out."
    )
    head = (names["a"], names["b"], "difference")
    yield Sheet(f"bias-{_slug(attribute)}", f"Bias of {attribute}", head, tuple(rows), note)


ENDS = {"value": "", "low": "_low", "high": "_high"}


def _shares(figures: Figures, attribute: str, names: Mapping[str, str]) -> Sheet:
    shares = [f for f in figures if f["figure"] == "share"]
    rows = []
    for prompt, klass in dict.fromkeys((f["prompt"], f["class"]) for f in shares):
        entries = []
        for of in ("a", "b"):
            one = pick(shares, "share", of, prompt=prompt, **{"class": klass})
            detail = f"{count(one['count'])} of {count(one['images'])}" if one else ""
            entries.append(Entry(estimate(one), as_percent=True, detail=detail))
        rows.append((f"{prompt}: {klass}", tuple(entries)))
    note = "With 95% intervals and counts, as estimated, not corrected for the classifier's errors."
    head = (names["a"], names["b"])
    return Sheet(f"shares-{_slug(attribute)}", f"Shares of {attribute}", head, tuple(rows), note)


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text).lower().split())
