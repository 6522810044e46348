"""What a table is made of: its rows and columns, the paper's claims, and the runs that fill its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints

from privsweep.interface.keys import SCALES
from privsweep.table.learning_curve import CurveNumber
from privsweep.table.number_format import FORMAT
from privsweep.table.significance import Weakened
from privsweep.table.strict import Id, Strict

FindingId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.]+$")]
Override = Annotated[str, StringConstraints(pattern=r"^[^=\s][^=\n]*=[^\n]*$")]
RECORD = ("metrics", "utility", "sizes", "privacy", "seconds")  # the parts of a record that hold numbers


def _of_a_record(metric: str) -> str:
    part, dot, _ = metric.partition(".")
    if dot and part not in RECORD:
        raise ValueError(f"a record has no part {part}; there are {', '.join(RECORD)}")
    return metric


Metric = Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*$"), AfterValidator(_of_a_record)]


def _note(given: Any) -> str | dict[str, str]:
    by_scale = {"paper": given} if isinstance(given, str) else given
    if not isinstance(by_scale, Mapping) or not by_scale or not {*by_scale} <= {*SCALES}:
        raise ValueError(f"a note is a text, or has one for the scales that it speaks of, of {', '.join(SCALES)}")
    if not all(isinstance(text, str) for text in by_scale.values()):
        raise ValueError("is no text")
    return given if isinstance(given, str) else {str(scale): str(text) for scale, text in by_scale.items()}


Note = Annotated[str | dict[str, str], PlainValidator(_note)]


class RowOrColumn(Strict):
    """A row or a column: its label, what it overrides, and the number that it reads from a run.

    ``metric`` is a name among a record's metrics or a dotted path such as ``seconds.per_victim``; ``learning`` is
    a number of the training curve instead; ``weakened``, for rows only, compares two other rows. ``answer``: of several
    answers of an attack the one that is read, and pictured, instead of that which it stands by. ``minus``: what is read
    less what the named row reads (of a column), or the named column (of a row), for the same seed. Over seeds a
    ``mean`` is N/A as soon as one seed is; a ``median`` counts N/A as infinity.
    """

    label: str
    overrides: list[Override] = Field(default_factory=list)
    metric: Metric | None = None
    learning: CurveNumber | None = None
    weakened: Weakened | None = None
    answer: Id | None = None
    minus: Id | None = None
    baseline: Id | None = None  # of a column: the column that it is measured against
    format: Annotated[str, StringConstraints(pattern=FORMAT)] | None = None  # m:ss, .1f, .3g, .1%
    aggregate: Literal["mean", "median"] = "mean"
    better: Literal["lower", "higher"] | None = None  # from the attacker's view
    note: str | None = None

    @property
    def readings(self) -> int:
        """How many numbers it reads."""
        return 3 - (self.metric, self.learning, self.weakened).count(None)


class Explanation(Strict):
    """Why a claim does not hold here, and what must hold over the cells for that to be shown."""

    because: str
    check: str


class Finding(Strict):
    """A claim of the paper, and whether it holds over the printed numbers (null: none are printed).

    ``presupposes``: what must hold for the claim to say anything, such as that the attack works where nothing defends.
    ``explained``: asked only where the claim does not hold.
    """

    id: FindingId
    claim: str
    check: str
    holds_in_print: bool | None
    presupposes: str | None = None
    explained: Explanation | None = None
    note: str | None = None


@dataclass(frozen=True)
class Job:
    """One run of a table, and the cells (row, column, seed) that read it."""

    id: str
    overrides: tuple[str, ...]
    cells: tuple[tuple[str, str, int], ...]
