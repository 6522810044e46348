"""The standard error of what a table's cells say: over seeds, and with one seed over what that run measured."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from privsweep.interface.utility import FINAL
from privsweep.table.order_statistics import error_of_median, half_of_farther_end
from privsweep.table.shares import Share, errors_above_none, least_of, least_variance, share_of
from privsweep.table.significance import error_of_mean
from privsweep.table.spec import Table
from privsweep.table.uncertain import ROUNDING, Log, Place, Term, cell_of
from privsweep.table.victims import column_of, decisions, measured_once, victims_in

_MEDIAN = math.sqrt(math.pi / 2)  # over seeds: a median's standard error, in that of the mean (normal)
_MEDIANS = ("iterations_to_zero",)  # medians over victims that no name tells
_INTERVAL = 2 * statistics.NormalDist().inv_cdf(0.975)  # standard errors between the ends of a 95% interval
_EXACT = ("sizes", "privacy")  # parts of a record that are counted or computed, not measured
_DECIDED = ("attack_accuracy", "balanced_accuracy")  # of candidates that columns have in common, half of them members
_SHARES = {"test_accuracy": "test", "start_test_accuracy": "test", "train_accuracy": "train"}


class Spread:
    """Standard errors of sums of cells.

    ``values``: of every cell, seed -> number in the printed unit, before anything is taken off (``minus``);
    ``records`` and ``folders``: of row, column and seed, what the store has.
    """

    def __init__(
        self,
        table: Table,
        values: Mapping[Place, Mapping[int, float | None]],
        records: Mapping[tuple[str, str, int], Mapping[str, Any]],
        folders: Mapping[tuple[str, str, int], Path],
    ):
        self.table, self.values, self.records, self.folders = table, values, records, folders
        self.by_one_seed = False  # whether an error was that of a single seed where there are several
        self.victims = cache(self._victims)
        self.first = cache(self._first)

    def error(self, slopes: Mapping[Term, float], strict: bool = False, apart: float = 0.0) -> float | None:
        """Of the sum of ``slopes`` times cells, differences taken seed by seed, or victim by victim; None: not known.

        ``apart``: how far it is from what it is compared with.

        ``strict``: what is asked is whether it is above, or below, another; then nothing, or everything, out of few
        victims is not exact, nor is any share of them that is the same under every seed. Cells that compare two others
        (``weakened``) are decided already and count as exact. Those that read the same number of the same runs vary as
        one.
        """
        own: dict[Term, float] = {}
        for term, slope in slopes.items():
            row, column = cell_of(term)
            if self.table.rows[row].weakened:
                continue
            first = self.first(row, column)
            taken: Term = Log(first) if isinstance(term, Log) else first
            own[taken] = own.get(taken, 0.0) + slope
            if other := self.table.less(row, column):
                if isinstance(term, Log):
                    return None
                place = self.first(*other)
                own[place] = own.get(place, 0.0) - slope
        if not any(own.values()):
            return 0.0
        if len(self.table.seeds) == 1:
            return self._of_one_seed(own, strict)
        error = self._over_seeds(own, strict)
        if error and (least := self._above_none(own, apart)) is not None and least < error:
            self.by_one_seed = True
            return least
        return error

    def log(self, cell: Place) -> float | None:
        """Of the numbers of all seeds, the mean or median of their common logarithms; None where one has none."""
        logs = self._numbers(Log(cell))
        return None if logs is None else self._middle(cell)(logs)

    def _middle(self, term: Term) -> Callable[[list[float]], float]:
        return statistics.median if self.table.source(*cell_of(term)).aggregate == "median" else statistics.fmean

    def _first(self, row: str, column: str) -> Place:
        """Of all cells that read the same number of the same runs, and show the same of it, the first."""
        read = self._read(row, column)
        return next(place for place in self.values if self._read(*place) == read) if read else (row, column)

    def _read(self, row: str, column: str) -> tuple[Any, ...]:
        """The runs behind a cell and the number that it reads of them; nothing where a run is missing."""
        runs = tuple(self.folders.get((row, column, seed)) for seed in self.table.seeds)
        source = self.table.source(row, column)
        shown = (source.learning, source.format, source.aggregate)
        return () if None in runs else (runs, self.table.metric(row, column), *shown)

    def _number(self, term: Term, seed: int) -> float | None:
        value = self.values.get(cell_of(term), {}).get(seed)
        if value is None or not isinstance(term, Log):
            return value
        return math.log10(value) if value > 0 else None

    def _numbers(self, term: Term) -> list[float] | None:
        """Of all seeds; None where one has none."""
        known = [number for seed in self.table.seeds if (number := self._number(term, seed)) is not None]
        return known if len(known) == len(self.table.seeds) else None

    def _over_seeds(self, slopes: Mapping[Term, float], strict: bool) -> float | None:
        numbers = {term: each for term in slopes if (each := self._numbers(term)) is not None}
        if len(numbers) < len(slopes):
            return None
        sums = [sum(map(operator.mul, slopes.values(), of_seed)) for of_seed in zip(*numbers.values(), strict=True)]
        if strict and max(sums) - min(sums) <= ROUNDING * max(map(abs, sums)):
            cells = {term: slope for term, slope in slopes.items() if not isinstance(term, Log)}
            return math.sqrt(sum(slope**2 * self._least_of_all_seeds(cell) for cell, slope in cells.items()))
        error = error_of_mean(sums)
        if all(self._middle(term) is statistics.fmean for term in slopes):
            return error
        value = sum(slope * self._middle(term)(numbers[term]) for term, slope in slopes.items())
        return max(_MEDIAN * error, half_of_farther_end(sums, value))  # which is more in two heaps

    def _above_none(self, slopes: Mapping[Term, float], apart: float) -> float | None:
        """Of a share of victims that is compared with none; None where something else is."""
        (place, slope), *others = slopes.items()
        if others or isinstance(place, Log):
            return None
        shares = self._shares(place)
        if not all(share.surely for share in shares) or not any(share.yes for share in shares):
            return None
        value = slope * self._unit(place) * statistics.fmean(share.yes / share.of for share in shares)
        return abs(value) / errors_above_none(shares) if math.isclose(apart, value, rel_tol=ROUNDING) else None

    def _least_of_all_seeds(self, place: Place) -> float:
        """The variance of a share of all seeds' victims; nothing for a number that is no share of them."""
        shares = self._shares(place)
        yes, of = sum(share.yes for share in shares), sum(share.of for share in shares)
        return self._unit(place) ** 2 * least_variance(yes, of) if shares else 0.0

    def _shares(self, place: Place) -> list[Share]:
        """Of every seed; none where a number is no share of victims."""
        shares = []
        for seed in self.table.seeds:
            value = self.values[place][seed]
            assert value is not None
            victims = victims_in(self.folders[*place, seed])
            shares.append(share_of(victims, self.table.metric(*place), value / self._unit(place)))
        return [share for share in shares if share] if None not in shares else []

    def _of_one_seed(self, terms: Mapping[Term, float], strict: bool) -> float | None:
        """Cells that attack the same victims are compared victim by victim, the others as independent."""
        slopes: dict[Place, float] = {}
        variance, paired = 0.0, dict[tuple[Any, ...], np.ndarray]()
        for term, slope in terms.items():
            cell = cell_of(term)
            if self._median_of(cell):
                error = self._of_median(term)
                if error is None:
                    return None
                variance += (slope * error) ** 2
                continue
            if isinstance(term, Log):  # to first order
                value = self._number(cell, self.table.seeds[0])
                if not value:
                    return None
                slope /= value * math.log(10)
            slopes[cell] = slopes.get(cell, 0.0) + slope
        floors = dict[tuple[Any, ...], float]()
        for place, slope in slopes.items():
            found = self.victims(place)
            if found is None:
                return None
            victims, each = found
            if isinstance(each, float):
                variance += (slope * each) ** 2
            else:
                paired[victims] = paired.get(victims, np.zeros(len(each))) + slope * each
                floors[victims] = floors.get(victims, 0.0) + slope**2 * self._unit(place) ** 2 * least_of(
                    each / self._unit(place)
                )
        for victims, sums in paired.items():
            own = error_of_mean(sums.tolist())
            variance += own**2 if own or not strict else floors[victims]
        return math.sqrt(variance)

    def _median_of(self, place: Place) -> str | None:
        """Of a median over victims the column of their table that it is of; None for any other number."""
        asked, name = self.table.source(*place).metric or "", self.table.metric(*place)
        if asked.endswith("_median"):
            return name.replace("_median", "", 1)
        return name if asked in _MEDIANS else None

    def _of_median(self, term: Term) -> float | None:
        """The error of a median over victims, or of its logarithm; None: not known."""
        row, column = cell_of(term)
        folder, name = self.folders.get((row, column, self.table.seeds[0])), self._median_of((row, column))
        each = column_of(folder, name) if folder and name else None
        if each is None or measured_once(each[1]):
            return None
        if isinstance(term, Log):
            return error_of_median(each[1].tolist(), math.log10)
        return error_of_median((self._unit((row, column)) * each[1]).tolist(), float)

    def _unit(self, place: Place) -> float:
        """What a share of one is printed as."""
        return 100.0 if (self.table.source(*place).format or "").endswith("%") else 1.0

    def _victims(self, place: Place) -> tuple[tuple[Any, ...], np.ndarray | float] | None:
        """Who was attacked and each one's number, or nobody and a standard error; None: not known."""
        row, column = place
        record = self.records.get((row, column, self.table.seeds[0]))
        source, name = self.table.source(row, column), self.table.metric(row, column)
        if record is None or source.learning is not None:
            return None
        unit = self._unit(place)
        part, _, rest = name.rpartition(".")
        value = self.values.get(place, {}).get(self.table.seeds[0])
        if part.partition(".")[0] in _EXACT:
            return (), 0.0
        of = _judged_on(record.get("sizes", {}), rest) if part == "utility" else None
        if of and value is not None:
            return (), unit * math.sqrt(max(0.0, value / unit * (1 - value / unit)) / of)
        numbers_of = record.get("utility", {}) if part == "utility" else {} if part else record["metrics"]
        folder = self.folders[row, column, self.table.seeds[0]]
        if not part and name in _DECIDED and (each := decisions(folder)):
            return each[0], unit * each[1]
        if numbers_of.get(f"{rest}_low") is not None:
            return (), unit * float(numbers_of[f"{rest}_high"] - numbers_of[f"{rest}_low"]) / _INTERVAL
        if part:
            return None
        each = column_of(folder, name)
        if each is None:
            count = value is not None and value.is_integer() and value > unit  # such as bytes; a share is none
            return ((), 0.0) if count else None  # else something that was measured once
        who, numbers = each
        if measured_once(numbers):
            return None
        return who, unit * numbers


def _judged_on(sizes: Mapping[str, int], name: str) -> int | None:
    """How many examples such a share was measured on."""
    split = _SHARES.get(name.removeprefix(FINAL))
    whole = sizes.get(split) if split else None
    return whole if name.startswith(FINAL) else sizes.get(f"judged_{split}", whole)
