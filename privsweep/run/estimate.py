"""How long a run will take and how much memory, judged by what the store has of runs like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, signature

# What the seconds of a stretch grow with, by part of the configuration.
_TRAINING = {"dataset": ("train_size",), "fl_setting": ("rounds", "local_epochs", "epochs", "models", "without")}
_PREPARING = {"attack": ("iterations", "restarts", "epochs", "shadows")}
_ATTACK = {"fl_setting": ("victims",), **_PREPARING}
_PASSES = ("rounds", "local_epochs", "epochs")  # none of them is no work at all
_REACH = 30.0  # a run with more or less of this times the work tells nothing: what does not grow hides what does
_TAKEN_OVER = 0.1  # seconds; a preparation that took less was found in the store
_ALIKE = ("dataset", "model", "fl_setting")


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    training: float | None  # seconds; None where there is no record to judge by
    attack: float | None  # seconds of all the rest
    memory: float | None  # GiB at the peak

    def seconds(self, trains: bool) -> float | None:
        """Of the run, with its training or with a system that is there; None where one of both is not known."""
        training = self.training if trains else 0.0
        return None if training is None or self.attack is None else training + self.attack


class Estimator:
    """Judges by ``records``, complete ones of one store.

    Runs are alike where dataset, model, setting, attack and kind of device are the same; one with the same defences
    counts before one with others, and one that differs in the seed alone before both. Where amounts differ, such as
    iterations and victims, seconds are taken to grow with their product, up to thirtyfold. Models that are attacked as
    initialised tell nothing of training.
    """

    def __init__(self, records: Sequence[Record]):
        self._records: dict[str, list[tuple[Record, str]]] = {}
        self._known: dict[tuple[object, ...], Estimate] = {}  # by all that it goes by: sweeps differ in little of it
        self._whole: dict[str, float] = {}  # examples of a whole dataset, as far as runs had one
        for record in records:
            alike = _alike(record["choices"], record["environment"]["device"])
            self._records.setdefault(alike, []).append((record, _but_seed(record["config"])))
            if (record["config"].get("dataset") or {}).get("train_size", 0) is None:
                self._whole[_images(record["config"])] = record["sizes"]["train"]
        self._configs = {config for found in self._records.values() for _, config in found}

    def __call__(self, spec: RunSpec) -> Estimate:
        device, own = spec.session.resolve_device().type, _but_seed(spec.config)
        stored = own if own in self._configs else None
        works = (self._work(spec.config, amounts) for amounts in (_TRAINING, _PREPARING, _ATTACK))
        key = (_alike(spec.choices, device), str(spec.choices["defense"]), stored, *works)
        if key not in self._known:
            self._known[key] = self._estimate(spec, device)
        return self._known[key]

    def _estimate(self, spec: RunSpec, device: str) -> Estimate:
        alike = self._records.get(_alike(spec.choices, device), [])
        attack = self._nearest(spec, alike, _ATTACK)
        trained = [found for kind, found in self._records.items() if _system(kind) == _system_of(spec, device)]
        fresh = [pair for found in trained for pair in found if not pair[0]["environment"]["trained_from_cache"]]
        training = self._nearest(spec, fresh, _TRAINING)
        rest = [self._scaled(r, spec, _ATTACK, _rest(r["seconds"])) + r["seconds"].get("load", 0.0) for r in attack]
        prepared = self._prepared(self._nearest(spec, alike, _PREPARING), spec)
        if prepared is None:  # all took it over
            prepared = self._prepared([r for r, _ in alike if self._within_reach(r, spec, _PREPARING)], spec)
        memory = [gib for r in attack or training if (gib := r["environment"].get("memory_gib"))]
        trains = [self._scaled(record, spec, _TRAINING, record["seconds"]["train"]) for record in training]
        return Estimate(
            training=median(trains) if trains else None,
            attack=median(rest) + (prepared or 0.0) if rest else None,
            memory=max(memory, default=None),
        )

    def _nearest(
        self, spec: RunSpec, among: Sequence[tuple[Record, str]], amounts: Mapping[str, Sequence[str]]
    ) -> Sequence[Record]:
        own = _but_seed(spec.config)
        found = [pair for pair in among if self._within_reach(pair[0], spec, amounts)]
        same = [record for record, config in found if config == own]
        defended = [record for record, _ in found if record["choices"]["defense"] == spec.choices["defense"]]
        return same or defended or [record for record, _ in found]

    def _prepared(self, records: Sequence[Record], spec: RunSpec) -> float | None:
        """Of those that did not take theirs over from the store; None where all did."""
        took = [(record, record["seconds"].get("prepare", 0.0)) for record in records]
        made = [self._scaled(record, spec, _PREPARING, seconds) for record, seconds in took if seconds >= _TAKEN_OVER]
        return median(made) if made else None

    def _scaled(self, record: Record, spec: RunSpec, amounts: Mapping[str, Sequence[str]], seconds: float) -> float:
        return seconds * self._more(record, spec, amounts)

    def _within_reach(self, record: Record, spec: RunSpec, amounts: Mapping[str, Sequence[str]]) -> bool:
        return 1 / _REACH <= self._more(record, spec, amounts) <= _REACH

    def _more(self, record: Record, spec: RunSpec, amounts: Mapping[str, Sequence[str]]) -> float:
        """How many times the work of ``record`` a run is; not a number where that is not known."""
        work, judged_by = self._work(spec.config, amounts), self._work(record["config"], amounts)
        if judged_by == 0.0:
            return math.inf if work else 1.0
        return work / judged_by

    def _work(self, config: Mapping[str, Any], amounts: Mapping[str, Sequence[str]]) -> float:
        given = {(part, name): (config.get(part) or {}).get(name) for part, names in amounts.items() for name in names}
        if ("dataset", "train_size") in given and given["dataset", "train_size"] is None:
            given["dataset", "train_size"] = self._whole.get(_images(config), math.nan)
        numbers = [(name, n) for (_, name), n in given.items() if isinstance(n, int | float)]
        return math.prod(n for name, n in numbers if n != 0 or name in _PASSES)


def _alike(choices: Mapping[str, Any], device: str) -> str:
    return "\n".join([device, *(str(choices.get(name)) for name in (*_ALIKE, "attack"))])


def _system(alike: str) -> str:
    return alike.rpartition("\n")[0]


def _system_of(spec: RunSpec, device: str) -> str:
    return _system(_alike(spec.choices, device))


def _rest(seconds: Mapping[str, float]) -> float:
    """What grows with the attack's work; what a process imports it does once, whatever the number of its runs."""
    others = ("train", "prepare", "load", "import")
    return seconds["total"] - sum(seconds.get(name, 0.0) for name in others)


def _but_seed(config: Mapping[str, Any]) -> str:
    return signature({key: value for key, value in config.items() if key != "seed"})


def _images(config: Mapping[str, Any]) -> str:
    """Of which dataset, whatever the number of its examples."""
    sizes = ("train_size", "test_size", "prior_size")
    return signature({name: value for name, value in config["dataset"].items() if name not in sizes})
