"""The attack on a translator: what it needs, what comes out, and what is written of it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Privsweep
from tiny import Bench
from translation_world import write_pairs

from privsweep.interface.guess import Transcription
from privsweep.interface.randomness import Rng
from privsweep.interface.truth import Sentences
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import exposure_for
from privsweep.run.with_data import check_with_data, prior_of

GIVEN = (
    "fl_setting=collaborative_inference", "dataset=multi30k", "dataset.max_words=7", "dataset.min_frequency=1",
    "model=translation_transformer", "attack=shadow_transcription", "fl_setting.optimizer=adam", "fl_setting.lr=3e-3",
    "fl_setting.weight_decay=0", "fl_setting.batch_size=16", "fl_setting.augment=none", "fl_setting.victims=3",
    "attack.batch_size=16", "scale=smoke",
)  # fmt: skip


@pytest.fixture
def run(privsweep: Privsweep, tmp_path: Path) -> Any:
    write_pairs(tmp_path / "data")

    def call(*arguments: str) -> dict[str, Any]:
        swept = {a.partition("=")[0] for a in arguments}
        given = [a for a in GIVEN if a.partition("=")[0] not in swept]
        assert privsweep(*given, *arguments, f"data_dir={tmp_path}/data", tiny=False) == 0
        [path] = tmp_path.glob("outputs/runs/*/record.json")
        return dict(json.loads(path.read_text()))

    return call


def attacked(folder: Path, victims: int) -> tuple[Transcription, Sentences]:
    with searching(None):
        spec = build(compose([*GIVEN, f"data_dir={folder}", f"fl_setting.victims={victims}"]))
    rng = Rng(0)
    data = spec.dataset.load(rng.child("dataset"))
    prior = prior_of(spec, data, rng)
    check_with_data(spec, data, prior, rng)
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, Bench())
    assert spec.view is not None
    out = exposure_for(spec, spec.view, system, data, prior, spec.defense, rng)
    attack = spec.attack
    assert list(inspect.signature(attack.__call__).parameters) == ["seen", "known", "prepared", "bench", "rng"]
    assert attack.prepares_from <= attack.needs
    prepared = attack.prepare(out.known.only(attack.prepares_from), Bench(), rng)
    guess = attack(out.seen, out.known, prepared, Bench(), rng)
    assert isinstance(guess, Transcription)
    assert isinstance(out.truth, Sentences)
    return guess, out.truth


def test_it_runs_on_what_it_needs_and_a_victim_does_not_depend_on_the_others(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (three, truth), (one, _) = attacked(tmp_path, 3), attacked(tmp_path, 1)
    assert three.tokens.shape == truth.tokens.shape == (3, 1, 9)
    assert truth.translations is not None
    assert truth.translations.shape == (3, 1, 8)
    assert torch.equal(three.tokens[:1], one.tokens)


def test_the_decoder_reads_the_shadow_and_readers_find_sentences(run: Any, tmp_path: Path) -> None:
    record = run("attack.epochs=60", "attack.shadow_epochs=2", "attack.lr=1e-2")
    metrics = record["metrics"]
    assert metrics["token_accuracy_shadow"] > 0.9
    assert metrics["decoder_accuracy"] > 0.9
    assert metrics["token_accuracy"] < metrics["token_accuracy_shadow"]
    assert metrics["shadow_loss"] > 0
    assert 0 <= metrics["overlap_translation"] <= 1
    [folder] = [path.parent for path in tmp_path.glob("outputs/runs/*/record.json")]
    table = pd.read_csv(folder / "sentences.csv")
    assert len(table) == 3
    assert {"truth", "translation", "shadow_translation", "guess_on_shadow", "guess"} <= set(table)
    text = (folder / "sentences.md").read_text(encoding="utf-8")
    assert f"- truth: {table['truth'][0]}" in text
    assert record["utility"]["bleu"] >= 0


def test_readers_find_words_that_are_not_in_the_vocabulary(run: Any, tmp_path: Path) -> None:
    run("dataset.min_frequency=1000")
    [path] = tmp_path.glob("outputs/runs/*/sentences.md")
    assert r"- truth: \<unk>" in path.read_text(encoding="utf-8")  # as HTML it would not be seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["dataset=digits", "model=lenet"], "attack=shadow_transcription: reads sentences, and the target's data are"),
        (["fl_setting.augment=crop_flip"], "fl_setting.augment=crop_flip: works on images"),
        (["fl_setting.first_split=transformer", "fl_setting.second_split=output"], "nothing to learn"),
        (["attack=shadow_inversion"], "attack=shadow_inversion: gives images"),
        (["attack.width=15"], "attack.width=15: must be a multiple of attack.heads=2"),
        (["model=resnet18"], "model=resnet18: works on images, and the dataset holds pairs of sentences of up to 7"),
        (["fl_setting=central", "attack=dlg"], "attack=dlg: works on images"),
        (["fl_setting=fedavg", "attack=none", "fl_setting.partition=disjoint"], "fl_setting.partition=disjoint: goes"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    changes: list[str], message: str, privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "data")
    groups = {c.partition("=")[0]: c.partition("=")[2] for c in changes}
    dropped = {"dataset", "model", "attack"} & groups.keys()
    given = [
        g for g in GIVEN
        if g.partition("=")[0] not in groups and g.partition(".")[0] not in dropped
        and not ("fl_setting" in groups and g.startswith("fl_setting."))
    ]  # fmt: skip
    if "dataset" in groups:
        given = [g for g in given if not g.startswith("dataset.")]
    assert privsweep(*given, *changes, f"data_dir={tmp_path}/data", tiny=False) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.count("\n") == 0
