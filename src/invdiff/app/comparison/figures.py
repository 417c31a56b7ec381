"""The figures of a comparison, found by name and set, as quantities that pages tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invdiff.app.report.quantities import Quantity

EACH = ("a", "b", "b - a")
SCALE = {"kid": 1000.0}  # shown times this


@dataclass(frozen=True)
class ComparisonFigures:
    """The figures of a ``metrics.json`` of two sets, ``a`` and ``b``; "b - a" is a difference."""

    record: Mapping[str, Any]

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes whose Bias was measured."""
        return self.values("attribute", "bias")

    @property
    def compared_with(self) -> str:
        """The set that distances are from."""
        return "reference" if "reference" in self.record["sets"] else "a"

    def values(self, key: str, name: str, **where: Any) -> tuple[Any, ...]:
        """The values of ``key`` among the figures called ``name``, each once, "" for none."""
        return tuple(dict.fromkeys(one.get(key, "") for one in self._all(name, where)))

    def find(self, name: str, of: str, **where: Any) -> Mapping[str, Any] | None:
        """The first figure of this name and set that agrees with ``where``."""
        return next((one for one in self._all(name, where) if one["of"] == of), None)

    def quantity(self, name: str, of: str, over: str = "", **where: Any) -> Quantity:
        """A figure, scaled as it is shown; ``over`` names another interval, "_over_prompts"."""
        figure = self.find(name, of, **where)
        if figure is None:
            return Quantity()
        factor = SCALE.get(name, 1.0)
        known = {"value": figure["value"], "low": figure[f"low{over}"]}
        known |= {"high": figure[f"high{over}"]}
        scaled = {key: None if one is None else one * factor for key, one in known.items()}
        return Quantity.of({**figure, **scaled})

    def of_each(self, name: str, **where: Any) -> tuple[Quantity, Quantity, Quantity]:
        """A figure of the first set, of the second, and their difference."""
        first, second, less = (self.quantity(name, of, **where) for of in EACH)
        return first, second, less

    def sets_of(self, name: str) -> list[str]:
        """The sets that have this figure."""
        return [of for of in EACH[:2] if self.find(name, of) is not None]

    def _all(self, name: str, where: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        figures = self.record["figures"]
        return [f for f in figures if f["figure"] == name and where.items() <= f.items()]
