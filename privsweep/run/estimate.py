"""How long a run will take and how much memory, judged by what the store has of runs like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, signature

# What the seconds of a stretch grow with, by part of the configuration; null counts as one.
_TRAINING = {"dataset": ("train_size",), "fl_setting": ("rounds", "local_epochs", "epochs", "models", "without")}
_ATTACK = {"fl_setting": ("victims",), "attack": ("iterations", "restarts", "epochs", "shadows")}
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
    iterations and victims, seconds are taken to grow with their product.
    """

    def __init__(self, records: Sequence[Record]):
        self._records: dict[str, list[tuple[Record, str]]] = {}
        for record in records:
            alike = _alike(record["choices"], record["environment"]["device"])
            self._records.setdefault(alike, []).append((record, _but_seed(record["config"])))

    def __call__(self, spec: RunSpec) -> Estimate:
        device = spec.session.resolve_device().type
        same = self._records.get(_alike(spec.choices, device), [])
        attack = [record for record, _ in self._nearest(spec, same)]
        trained = [found for alike, found in self._records.items() if _system(alike) == _system_of(spec, device)]
        fresh = [pair for found in trained for pair in found if not pair[0]["environment"]["trained_from_cache"]]
        training = [record for record, _ in self._nearest(spec, fresh)]
        rest = [_scaled(r, spec, _ATTACK, _rest(r["seconds"])) for r in attack]
        prepared = max((_prepared(r, spec) for r in attack), default=0.0)
        if prepared < _TAKEN_OVER:  # from runs with the same attack: how long it is when there is none
            prepared = max((_prepared(r, spec) for r, _ in same), default=0.0)
        memory = [gib for r in (*attack, *training) if (gib := r["environment"].get("memory_gib"))]
        return Estimate(
            training=median(_scaled(r, spec, _TRAINING, r["seconds"]["train"]) for r in training) if training else None,
            attack=median(rest) + prepared if rest else None,
            memory=max(memory, default=None),
        )

    @staticmethod
    def _nearest(spec: RunSpec, found: Sequence[tuple[Record, str]]) -> Sequence[tuple[Record, str]]:
        own = _but_seed(spec.config)
        same = [pair for pair in found if pair[1] == own]
        defended = [pair for pair in found if pair[0]["choices"]["defense"] == spec.choices["defense"]]
        return same or defended or found


def _alike(choices: Mapping[str, Any], device: str) -> str:
    return "\n".join([device, *(str(choices.get(name)) for name in (*_ALIKE, "attack"))])


def _system(alike: str) -> str:
    return alike.rpartition("\n")[0]


def _system_of(spec: RunSpec, device: str) -> str:
    return _system(_alike(spec.choices, device))


def _rest(seconds: Mapping[str, float]) -> float:
    return seconds["total"] - seconds["train"] - seconds.get("prepare", 0.0)


def _prepared(record: Record, spec: RunSpec) -> float:
    return _scaled(record, spec, _ATTACK, record["seconds"].get("prepare", 0.0))


def _but_seed(config: Mapping[str, Any]) -> str:
    return signature({key: value for key, value in config.items() if key != "seed"})


def _scaled(record: Record, spec: RunSpec, amounts: Mapping[str, Sequence[str]], seconds: float) -> float:
    return seconds * _work(spec.config, amounts) / _work(record["config"], amounts)


def _work(config: Mapping[str, Any], amounts: Mapping[str, Sequence[str]]) -> float:
    numbers = ((config.get(part) or {}).get(name) for part, names in amounts.items() for name in names)
    return math.prod(n for n in numbers if isinstance(n, int | float) and n > 0)
