"""What holds for everything found in conf/, whoever adds to it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from attack_world import exposed
from tiny import FITTING, TINY, Bench
from translation_world import write_pairs

from privsweep.cli import sweep
from privsweep.cli.tables import tables_in
from privsweep.defense.stack import Stack
from privsweep.interface.defense import Defense
from privsweep.interface.guess import Guess, Reconstruction, Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Predictions, PropertyTrials, Schedule
from privsweep.interface.truth import Images, Membership, Properties
from privsweep.report.write import write
from privsweep.run import outcome
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.run.reported import can_report
from privsweep.run.run import run
from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, Store
from privsweep.table.fill import fill_table

SMALL = [*TINY, "fl_setting.capture.batch_size=1", "fl_setting.labels_known=true"]


def choices(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


@pytest.fixture
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


TEXT = {"dager", "shadow_transcription"}  # read sentences: tests/attack/test_<name>.py hold them to the same
# Defences of what a client of collaborative inference sends.
SENT = {"dropout_ensemble", "dropout_single", "ensembler", "random_head", "shredder", "single_noise"}
AT_A_CLIENT = ["fl_setting=collaborative_inference", "attack=shadow_inversion", "model=lenet"]
BLACK_BOX = ["dataset.prior_size=100", "dataset.train_size=40", "dataset.test_size=40", "fl_setting.candidates=20"]
FEW = {"iterations": 1, "inner_iterations": 5}  # float32 amplifies the last bit, so victims compare early


def made(*overrides: str) -> RunSpec:
    swept = {o.partition("=")[0] for o in overrides}
    settled = [o for o in SMALL if o.partition("=")[0] not in swept]
    if "fl_setting=split" in overrides:
        settled = [o for o in settled if "labels_known" not in o]
    if {"fl_setting=collaborative_inference", "fl_setting=release"} & {*overrides}:
        settled = [o for o in settled if "labels_known" not in o and "capture" not in o]
    return build(compose([*settled, *overrides]))


def fitting(name: str) -> list[str]:
    """The overrides with which an attack can be composed."""
    if name in FITTING:
        return FITTING[name]
    return BLACK_BOX if asks_a_black_box(name) else []


def asks_a_black_box(name: str) -> bool:
    """Whether an attack asks a black box."""
    target = compose([f"attack={name}"]).config["attack"]["_target_"]
    module, _, cls = target.rpartition(".")
    return getattr(importlib.import_module(module), cls).observes is Predictions


def attacked(spec: RunSpec, out: Exposure) -> Guess:
    """On what it needs, and nothing else."""
    attack = spec.attack
    given = out.known.only(attack.prepares_from)
    prepared = attack.prepare(given, Bench(), Rng(0))
    return attack(out.seen, out.known, prepared, Bench(), Rng(0))


# What is published: contract suites walk over what they find, and this says that they find all of it.
PUBLISHED = {
    "attack": "analytic april blind blind_membership cpl dager dlg fishing generative_decoder idlg iga imprint "
    "informed_membership informed_reconstruction likelihood_inversion lira_offline lira_online loss_threshold "
    "moment_inversion none prior_mean property_inference rgap rmia "
    "shadow_inversion shadow_membership shadow_transcription update_membership",
    "dataset": "celeba_hq chestmnist cifar10 cifar100 dermamnist digits emnist fashion_mnist folder medical_mnist "
    "mnist multi30k npz pathmnist pneumoniamnist unseen",
    "defense": "central_dp dp_sgd dropout_ensemble dropout_single ensembler gradient_pruning gradient_quantization "
    "noisy_gradients precode random_head secure_aggregation shredder single_noise soteria",
    "fl_setting": "captured central collaborative_inference fedavg fedsgd release split",
    "model": "alexnet dmlp imprint_module informed_cnn informed_mlp lenet lenet_dlg resnet18 smlp "
    "translation_transformer vgg16 vit",
}
TABLES = 66  # and figures


@pytest.mark.parametrize("group", PUBLISHED)
def test_nothing_is_lost_from_the_groups(group: str) -> None:
    assert set(choices(group)) >= set(PUBLISHED[group].split())


def test_no_table_is_lost() -> None:
    assert len(tables_in(CONF)) >= TABLES


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("name", choices("model"))
def test_every_model_builds(name: str) -> None:
    assert build(compose([f"model={name}"])).choices["model"] == name


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("name", [n for n in choices("attack") if n not in TEXT])
def test_every_attack_takes_its_five_arguments_and_runs_on_what_it_needs(name: str) -> None:
    spec = made(f"attack={name}", *fitting(name))
    attack = spec.attack
    names = list(inspect.signature(attack.__call__).parameters)
    assert names == ["seen", "known", "prepared", "bench", "rng"]
    assert attack.prepares_from <= attack.needs
    if attack.observes is None:
        return
    out = exposed(spec)
    guess = attacked(spec, out)
    if isinstance(guess, Scores):
        assert isinstance(out.truth, Membership | Properties)
        true = out.truth.member if isinstance(out.truth, Membership) else out.truth.present
        assert guess.scores.shape == guess.decisions.shape == true.shape
        assert guess.decisions.dtype == torch.bool
    else:
        assert isinstance(out.truth, Images)
        assert guess.images.shape == out.truth.pixels.shape
        assert guess.diverged.shape == (len(guess.images),)


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("name", [n for n in choices("attack") if n not in {"none", *TEXT}])
def test_a_victims_result_does_not_depend_on_who_else_is_attacked(name: str) -> None:
    if asks_a_black_box(name):
        pytest.skip("a candidate is judged against the others' data by some; their own tests say what must hold")
    if name in ("informed_membership", "property_inference", "update_membership"):
        pytest.skip(f"gives scores: tests/attack/test_{name}.py")
    config = compose([f"attack={name}"]).config["attack"]
    few = [f"attack.{key}={value}" for key, value in FEW.items() if key in config]

    def guess(victims: int) -> torch.Tensor:
        spec = made(f"attack={name}", f"fl_setting.victims={victims}", *fitting(name), *few)
        found = attacked(spec, exposed(spec))
        assert isinstance(found, Reconstruction)
        return found.images

    assert torch.allclose(guess(3)[:1], guess(1), atol=1e-3)


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("name", choices("defense"))
def test_every_defence_acts_somewhere_and_changes_nothing_in_place(name: str) -> None:
    spec = made(f"defense=[{name}]", *(AT_A_CLIENT if name in SENT else []))
    schedule = Schedule(examples=20, batch_size=8, steps=6, rounds=2, clients=3, participation=1.0)
    [defense] = spec.defense.bind(schedule).defenses.values()
    assert spec.view is not None
    assert defense.acts_at() & (spec.fl_setting.training_calls | spec.view.calls)
    grad = {"w": torch.linspace(-1, 1, 12).view(3, 4)}
    kept = grad["w"].clone()
    defense.gradient(grad, 1, Rng(0))
    defense.update(grad, Rng(0))
    assert torch.equal(grad["w"], kept)


@pytest.mark.usefixtures("_hydra")
def test_a_defence_that_nothing_calls_is_refused() -> None:
    class Idle(Defense):
        pass

    from privsweep.run.compatibility import refuse

    spec = dataclasses.replace(made(), defense=Stack({"idle": Idle()}))
    [line] = refuse(spec)
    assert "defense=idle" in line


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Data, and one store of all tables: a run of several is made once, as a user's is."""
    root = tmp_path_factory.mktemp("tables")
    _stand_ins(root / "data")
    return [f"data_dir={root}/data", f"output_dir={root}/out"]


# Of the stand-ins for datasets; of one shape one serves as well as another.
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("mnist", "fashion_mnist", "emnist", "pneumoniamnist", "chestmnist"), (28, 28)),
    **dict.fromkeys(("pathmnist", "dermamnist"), (28, 28, 3)), **dict.fromkeys(("cifar10", "cifar100"), (32, 32, 3)),
    "medical_mnist": (64, 64), "celeba_hq": (64, 64, 3),
}  # fmt: skip


@pytest.fixture(scope="module")
def done() -> dict[str, Record]:
    """By what was chosen, and what is read of it."""
    return {}


@pytest.mark.parametrize("name", tables_in(CONF))
def test_every_table_runs_at_smoke_scale(
    name: str, folders: list[str], done: dict[str, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On noise in place of the datasets, for one seed: that it runs, not what comes out.

    Of the cells, of all tables, that differ by values alone, one is run and stands for the others; all of them are
    planned, and every printed number has one.
    """
    for picture in ("curves", "reconstructions", "draw_roc"):  # which have tests of their own
        monkeypatch.setattr(outcome, picture, lambda *given: None)
    monkeypatch.setattr("privsweep.report.write.table_png", lambda path, filled: path)
    planned = sweep.stored(name, [*folders, "scale=smoke", "table.seeds=[0]"])
    table = planned.table
    assert table is not None
    assert len({run.spec.signature for run in planned.runs}) == len(planned.runs)
    cells = {(r, c) for job in table.jobs() for r, c, _ in job.cells}
    for row, columns in table.printed.items():
        judged = table.rows[row].weakened  # a verdict stands on two other cells
        read = [judged.base, judged.adapted] if judged else [row]
        assert all((r, column) in cells for column in columns for r in read)
    read_of = {job.id: sorted({table.metric(r, c) for r, c, _ in job.cells}) for job in table.jobs()}
    records: dict[str, Record | None] = {}
    for job in planned.runs:
        chosen = {group: str(choice) for group, choice in job.spec.choices.items() if group != "experiment"}
        kind = str(({group: SHAPES.get(choice) or choice for group, choice in chosen.items()}, read_of[job.name]))
        if kind not in done:
            done[kind] = run(least(job.spec))
        records[job.name] = done[kind]
        for part in ("metrics", "utility", "seconds", "sizes"):  # a name that is not foreseen would be refused
            assert all(can_report(job.spec, f"{part}.{number}") for number in done[kind].get(part, {}))
    store = Store(planned.runs[0].spec.session.output_dir)
    filled = fill_table(table, records, "smoke", folder=store.folder)
    assert not filled.problems
    names = [path.name for path in write(filled, store.root)]
    assert any(n.endswith(".figure.png") for n in names) == (table.figure is not None)


def least(spec: RunSpec) -> RunSpec:
    """One victim, or a pair with the property and without, and one step of the attack."""
    victims = 2 if spec.attack.observes is PropertyTrials else 1
    setting = dataclasses.replace(spec.fl_setting, victims=victims)  # type: ignore[type-var]
    attack = spec.attack
    if hasattr(attack, "iterations"):
        attack = dataclasses.replace(attack, iterations=1)  # type: ignore[type-var]
    return dataclasses.replace(spec, fl_setting=setting, attack=attack)


def _stand_ins(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_pairs(folder)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        arrays = {}
        classes, sizes = (307, (614, 307)) if name == "celeba_hq" else (10, (180, 40))
        for split, n in zip(("train", "test"), sizes, strict=True):
            arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(n) % classes).astype(np.uint16)[:, None]
        np.savez(folder / f"{name}.npz", **arrays)
