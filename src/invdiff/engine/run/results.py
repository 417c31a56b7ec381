"""What the stages of a run leave for later ones: one reader and one writer for each file.

``groups.parquet``, ``discovery.json``, ``attributes.json``, ``attributes.parquet``,
``training.json``, ``adapter/calibration.json``, ``samples.parquet`` and ``metrics.json`` are
parsed here and nowhere else. Everybody else has typed, frozen objects. Keys that an earlier
version wrote under another name are read, and said.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from invdiff.core.groups.memberships import Membership, hard, memberships
from invdiff.data.samples import plural
from invdiff.engine.run.records import Attributes, Calibration, Discovery, Metrics, Record, Training
from invdiff.engine.run.stages import STAGES
from invdiff.engine.storage.files import read_json, read_parquet, write_json, write_parquet
from invdiff.engine.storage.seals import Seals
from invdiff.errors import RunError

logger = logging.getLogger(__name__)

Columns = dict[str, NDArray[Any]]
Kind = TypeVar("Kind", bound=Record)


@dataclass(frozen=True)
class Groups:
    """``groups.parquet``: the inferred groups, a row for each picture of the data.

    ``membership`` is q_i(1), the probability of group 1, as (n,) for two groups, and all q_i(e) as
    (n, K) for more. ``weight`` balances the groups of a prompt; the weights of a prompt average 1.
    ``path`` says where each is in its source; empty in files of before.
    """

    sample_id: tuple[str, ...]
    prompt: tuple[str, ...]
    caption: tuple[str, ...]
    membership: Membership
    weight: NDArray[np.float64]
    path: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sample_id)

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.2f}" for share in memberships(self.membership).mean(0))
        sizes = f"{plural(len(self), 'picture')}, {plural(len(set(self.prompt)), 'prompt')}"
        return f"Groups({sizes}, overall shares {shares})"

    @property
    def group(self) -> NDArray[np.int64]:
        """The most probable group of each picture, (n,)."""
        return hard(self.membership)

    def columns(self) -> dict[str, Any]:
        """The table as it is stored, ready for ``pandas.DataFrame``."""
        q = memberships(self.membership)
        return {
            "sample_id": list(self.sample_id),
            "prompt": list(self.prompt),
            "caption": list(self.caption),
            "group": self.group.astype(np.int32),
            **{f"q_{group}": q[:, group] for group in range(q.shape[1])},
            "weight": self.weight,
            **({"path": list(self.path)} if self.path else {}),
        }

    @classmethod
    def of_columns(cls, table: Mapping[str, Any]) -> "Groups":
        """The groups of a table that :meth:`columns` made."""
        names = ["q_1"] if "q_2" not in table else [name for name in table if name[:2] == "q_"]
        q = [np.array(table[name], float) for name in names]
        return cls(
            tuple(table["sample_id"]),
            tuple(table["prompt"]),
            tuple(table.get("caption", table["prompt"])),
            q[0] if len(q) == 1 else np.stack(q, 1),
            np.array(table["weight"], float),
            tuple(table.get("path", ())),
        )


@dataclass(frozen=True)
class Results:
    """The files of the run folder ``path``, each read once, when it is asked for first.

    Raises RunError for a file that is missing or damaged, with the way to make it again.
    """

    path: Path

    def has(self, name: str) -> bool:
        """Whether the file ``name`` is there."""
        return (self.path / name).exists()

    @cached_property
    def groups(self) -> Groups:
        """What discovery says about each picture."""
        return Groups.of_columns(self._columns("groups.parquet"))

    @cached_property
    def discovery(self) -> Discovery:
        """What discovery says about each prompt."""
        return self._read(Discovery)

    @cached_property
    def attributes(self) -> Attributes:
        """What discovery says about each attribute."""
        return self._read(Attributes)

    @cached_property
    def attribute_memberships(self) -> dict[str, NDArray[np.float64]]:
        """By the id of an attribute the probability of value 1, (n,), in the order of the groups.

        ``attributes.parquet``.
        """
        table = self._columns("attributes.parquet")
        return {name[2:]: np.array(q, float) for name, q in table.items() if name[:2] == "q_"}

    @cached_property
    def training(self) -> Training:
        """What training did."""
        return self._read(Training)

    @cached_property
    def calibration(self) -> Calibration:
        """The strength that was found to be enough, and the ones that were tried."""
        return self._read(Calibration)

    @cached_property
    def metrics(self) -> Metrics:
        """What the samples show."""
        return self._read(Metrics)

    @cached_property
    def samples(self) -> Columns:
        """The drawn pictures, a row for each: arm, scale, prompt, seed, path, strength."""
        table = self._columns("samples.parquet")
        return {name: np.asarray(values) for name, values in table.items()}

    def write_groups(self, groups: Groups) -> None:
        """Write ``groups.parquet``."""
        write_parquet(self.path / "groups.parquet", groups.columns())

    def write_samples(self, columns: Mapping[str, Any]) -> None:
        """Write ``samples.parquet``."""
        write_parquet(self.path / "samples.parquet", columns)

    def write(self, record: Record) -> None:
        """Write the file that ``record`` belongs to; later reads see it."""
        write_json(self.path / record.FILE, record.stored())
        self.__dict__.pop(type(record).__name__.lower(), None)

    def _columns(self, name: str) -> dict[str, list[Any]]:
        Seals(self.path).verify(STAGES, only=name)
        return read_parquet(self.path / name)

    def _read(self, kind: type[Kind]) -> Kind:
        path, renamed = self.path / kind.FILE, set[tuple[str, str]]()
        Seals(self.path).verify(STAGES, only=kind.FILE)
        try:
            found = kind.model_validate(read_json(path), context=renamed)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RunError(
                f"{path} is damaged ({where}: {first['msg']}): redo its stage (--redo)"
            ) from None
        for old, new in sorted(renamed):
            logger.warning("%s: read %r as %r, its name today", path, old, new)
        return found
