"""Systems that differ in their seed alone are trained together: the same as each by itself, and found by its run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_members
from tiny import TINY, Bench
from translation_world import write_pairs

from privsweep.dataset.npz_format import write
from privsweep.fl_setting.central import Central
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.run import ahead
from privsweep.run.ahead import train_ahead
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import run
from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Store

EPOCHS = 3
CPU = torch.device("cpu")
CENTRAL = (
    *(o for o in TINY if not o.startswith("dataset")), "fl_setting=central", f"fl_setting.epochs={EPOCHS}",
    "fl_setting.batch_size=128", "fl_setting.optimizer=sgd", "fl_setting.lr=0.05", "attack=blind",
)  # fmt: skip


def specs(folder: Path, seeds: Sequence[int], *overrides: str) -> list[RunSpec]:
    """Of all images of a file, unless the overrides name a dataset: three batches an epoch, the last of them small."""
    given = [*CENTRAL, f"output_dir={folder}", *overrides]
    if not any(override.startswith("dataset=") for override in overrides):
        images = folder / "images.npz"
        write(images, make_members(train=300, test=60, classes=10, size=(8, 8)))
        given += ["dataset=npz", f"dataset.path={images}"]
    with searching(None):
        return [build(compose([*given, f"seed={seed}"])) for seed in seeds]


def systems(made: Sequence[RunSpec]) -> list[System]:
    """As they are stored."""
    device = torch.device("cpu")
    store = Store(made[0].session.output_dir)

    def absent() -> System:
        raise AssertionError("not trained")

    return [store.system(spec.training_key(device), device, absent)[0] for spec in made]


def alike(one: System, other: System) -> None:
    """To rounding."""
    assert one.snapshots.keys() == other.snapshots.keys()
    for done, weights in one.snapshots.items():
        for name, w in weights.items():
            torch.testing.assert_close(w, other.snapshots[done][name], rtol=1e-4, atol=1e-5)
    assert [row["round"] for row in one.curve] == [row["round"] for row in other.curve]
    for mine, its in zip(one.curve, other.curve, strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-4)
    assert one.utility == pytest.approx(other.utility, abs=0.02)


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "KINDS", frozenset({"cpu"}))


@pytest.mark.usefixtures("pays")
@pytest.mark.parametrize(
    "overrides",
    [
        ("fl_setting.optimizer=adam",),
        ("model.norm=batch",),  # before which a bias has no gradient but rounding, of which Adam makes a step
        ("defense=[precode]",),
        ("defense=[noisy_gradients]",),
    ],
    ids=str,
)
def test_they_come_out_as_each_by_itself_and_their_runs_take_them(
    overrides: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together, apart = (specs(tmp_path / name, (0, 1, 2), *overrides) for name in ("together", "apart"))
    train_ahead(together)
    assert "training lenet_dlg under seeds 0, 1, 2 at once" in capsys.readouterr().err
    assert not [*tmp_path.glob("together/partial/*")]
    records = [run(spec) for spec in together]
    assert all(record["environment"]["trained_from_cache"] for record in records)
    for spec in apart:
        run(spec)
    for one, other in zip(systems(together), systems(apart), strict=True):
        alike(one, other)


@pytest.mark.usefixtures("pays")
def test_systems_of_sentences_are_trained_together_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["dataset=multi30k", f"data_dir={write_pairs(tmp_path)}", "model=translation_transformer", "attack=none"]
    made = specs(tmp_path, (0, 1), *text, "model.width=16", "dataset.min_frequency=1")
    train_ahead(made)
    assert "failed" not in capsys.readouterr().err
    systems(made)


@pytest.mark.usefixtures("pays")
@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("dataset.train_size=60",), "every seed draws images of its own"),
        (("defense=[dp_sgd]",), "a gradient an example"),
        (("fl_setting=collaborative_inference", "model=lenet", "attack=none"), "the setting does not offer it"),
    ],
)
def test_what_cannot_be_trained_together_is_left_to_its_run(
    overrides: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    train_ahead(specs(tmp_path, (0, 1), *overrides))
    assert not [*tmp_path.glob("systems/*")], why


def test_on_a_cpu_nothing_is_trained_ahead(tmp_path: Path) -> None:
    train_ahead(specs(tmp_path, (0, 1)))
    assert not [*tmp_path.glob("systems/*")]


@pytest.mark.usefixtures("pays")
def test_where_they_fail_together_the_runs_go_on_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Central, "train_together", full)
    train_ahead(specs(tmp_path, (0, 1)))
    assert "2 systems at once do not fit the memory; they are trained one after the other" in capsys.readouterr().err


@pytest.mark.usefixtures("pays")
@pytest.mark.parametrize("filed", [0, 1, 2, 3])
def test_two_processes_at_once_share_the_work(
    filed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """``filed``: how many systems the first one has filed when it is killed."""
    real, rounds, counts = Central.train_together, iter(range(9)), []
    store, waiting = Store(tmp_path), threading.Thread(target=lambda: train_ahead(specs(tmp_path, (0, 1, 2))))

    def train(setting: Central, data: Data, model: Any, defenses: Any, rngs: Sequence[Rng], bench: Any) -> Any:
        counts.append(len(rngs))
        made = real(setting, data, model, defenses, rngs, bench)
        if next(rounds) == 0:
            waiting.start()
            while "waiting for another process that trains" not in capfd.readouterr().err:
                time.sleep(0.01)
            for spec, system in list(zip(specs(tmp_path, (0, 1, 2)), made, strict=True))[:filed]:
                store.system(spec.training_key(CPU), CPU, lambda system=system: system)
            raise KilledError
        return made

    monkeypatch.setattr(Central, "train_together", train)
    train_ahead(specs(tmp_path, (0, 1, 2)))
    waiting.join()
    assert counts == [3, *([3 - filed] if filed < 2 else [])]
    assert len([*tmp_path.glob("systems/*")]) == max(filed, 3 if filed < 2 else 0)
    assert not [*tmp_path.glob("partial/*")]


class KilledError(Exception):
    pass


def test_a_training_together_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path, data: Data) -> None:
    class Killed(Bench):
        def tick(self, done: int, total: int, **numbers: float) -> None:
            if done == 2:
                raise KilledError

    [spec] = specs(tmp_path, [0])
    setting = spec.training_setting()
    assert isinstance(setting, Central)
    given = data, spec.model, [spec.training_defense()] * 2, [Rng(0), Rng(1)]
    whole = setting.train_together(*given, Bench())
    dying = Killed(keeps=True)
    with pytest.raises(KilledError):
        setting.train_together(*given, dying)
    assert dying.store
    second = Bench(store=dying.store)
    for one, other in zip(whole, setting.train_together(*given, second), strict=True):
        assert all(torch.equal(w, other.snapshots[EPOCHS][name]) for name, w in one.snapshots[EPOCHS].items())
        assert one.curve == other.curve
    assert [done for done, _ in second.ticks] == [2, 2, 3, 3]
