"""Sentences behind gradients of a network that translates."""

from __future__ import annotations

import gzip
import inspect
from pathlib import Path

import pytest
import torch
from attack_world import seen_by_attack
from conftest import Privsweep
from gpu_steps import Place
from pretend_device import pretending
from tiny import Bench

from privsweep.gradient_inversion.sequences import dropped_inputs
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Transcription
from privsweep.interface.randomness import Rng
from privsweep.interface.truth import Sentences
from privsweep.metric.sentences import in_order, score_sentences

WORDS = 150


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of three to six words, of which the first is frequent, each translated word by word."""
    folder = tmp_path_factory.mktemp("data") / "multi30k"
    folder.mkdir()
    for split, count in {"train": 150, "val": 4, "test_2016_flickr": 4}.items():
        lines = []
        for n in range(count):
            rng = Rng(0, ("sentence", split, n))
            length = 2 + int(rng.child("length").permutation(4)[0])
            lines.append([int(rng.child("first").permutation(3)[0]), *rng.permutation(WORDS)[:length].tolist()])
        for language in ("en", "de"):
            text = "".join(" ".join(f"{language}{word}" for word in line) + "\n" for line in lines)
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return folder.parent


def given(data_dir: Path, *overrides: str) -> list[str]:
    return [
        "attack=dager", "dataset=multi30k", "dataset.max_words=7", "dataset.min_frequency=1", "fl_setting=fedavg",
        "model=translation_transformer", "model.width=128", "model.heads=4", "model.feedforward=128",
        "fl_setting.rounds=0", "fl_setting.victims=2", "scale=smoke", f"data_dir={data_dir}", *overrides,
    ]  # fmt: skip


def scores(data_dir: Path, *overrides: str) -> dict[str, float | None]:
    spec, out = seen_by_attack(given(data_dir, *overrides))
    assert list(inspect.signature(spec.attack.__call__).parameters) == ["seen", "known", "prepared", "bench", "rng"]
    guess = spec.attack(out.seen, out.known.only(spec.attack.needs), {}, Bench(), Rng(0))
    assert isinstance(guess, Transcription)
    assert isinstance(out.truth, Sentences)
    assert set(guess.diagnostics) == spec.attack.reports
    return score_sentences(in_order(guess, out.truth), out.truth, out.known.domain)[0]


@pytest.mark.parametrize("overrides", [
    [],
    ["model.dropout=0"],
    ["fl_setting.rounds=1", "fl_setting.local_epochs=2", "fl_setting.lr=3e-3", "fl_setting.capture.round=last"],
    ["defense=[dp_sgd]", "defense.dp_sgd.noise_multiplier=0", "defense.dp_sgd.epsilon=null"],
    ["defense=[gradient_pruning]"],
    ["fl_setting=fedsgd"],
    ["fl_setting.capture.what=difference", "fl_setting.optimizer=sgd", "fl_setting.local_epochs=1", "fl_setting.lr=1"],
])  # fmt: skip
def test_a_pair_is_read_exactly_in_spite_of_dropout(overrides: list[str], data_dir: Path) -> None:
    found = scores(data_dir, *overrides)
    assert found["exact"] == 1
    assert found["certain"] == 1


@pytest.mark.parametrize("overrides", [
    ["fl_setting.capture.batch_size=4", "fl_setting.rounds=1", "fl_setting.lr=3e-3", "fl_setting.capture.round=last"],
    ["fl_setting.capture.batch_size=4", "model.feedforward=16"],  # fewer than there are words
    ["fl_setting.capture.batch_size=2", "defense=[secure_aggregation]"],
    ["fl_setting.position=client"],
])  # fmt: skip
def test_several_pairs_are_told_apart_where_nothing_is_dropped(overrides: list[str], data_dir: Path) -> None:
    found = scores(data_dir, "model.dropout=0", *overrides)
    assert found["exact"] == 1
    assert found["certain"] == 1


@pytest.mark.parametrize("overrides", [
    ["fl_setting.capture.batch_size=4", "fl_setting.victims=1"],
    ["fl_setting.capture.batch_size=2", "fl_setting.rounds=1", "fl_setting.lr=3e-3", "fl_setting.capture.round=last"],
    ["fl_setting.capture.batch_size=1", "fl_setting.clients=2", "defense=[secure_aggregation]"],
])  # fmt: skip
def test_several_pairs_are_told_apart_in_spite_of_dropout(overrides: list[str], data_dir: Path) -> None:
    found = scores(data_dir, *overrides)
    assert found["exact"] == 1
    assert found["certain"] == 1


def test_what_was_found_is_told_though_more_is_missing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped_inputs, "_TRIES", 4)
    spec, out = seen_by_attack(given(data_dir, "fl_setting.capture.batch_size=4", "fl_setting.victims=1"))
    guess = spec.attack(out.seen, out.known.only(spec.attack.needs), {}, Bench(), Rng(0))
    assert isinstance(guess, Transcription)
    assert isinstance(out.truth, Sentences)
    source = out.known.domain.source_length  # type: ignore[union-attr]
    right = 0
    for side in (slice(0, source), slice(source, None)):
        own, told = ({tuple(row[side].tolist()) for row in tokens[0]} for tokens in (out.truth.tokens, guess.tokens))
        right += len(own & told)
    assert 0 < float(guess.diagnostics["certain"][0]) * 8 <= right < 8


def test_what_hides_places_leaves_the_words(data_dir: Path) -> None:
    dropped = scores(data_dir, "fl_setting.capture.batch_size=2", "model.dropout=0.5", "fl_setting.victims=1")
    noisy = scores(data_dir, "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=3e-4")
    for found in (dropped, noisy):
        assert found["certain"] == 0
        assert found["overlap"] is not None
        assert found["overlap"] > 0.4
    assert noisy["overlap"] == pytest.approx(1, abs=0.1)
    hidden = scores(data_dir, "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=10")
    assert hidden["overlap"] is not None
    assert hidden["overlap"] < 0.1


@pytest.mark.parametrize(("overrides", "certain"), [
    (["model.dropout=0"], 1),  # sentences of six words at most leave a row of eight
    (["model.dropout=0", "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3"], 0),  # told by the output
    ([], 0),  # half the entries are to fit, and with seven rows always do
])  # fmt: skip
def test_in_an_embedding_as_narrow_as_a_sentence_is_long_only_what_fits_is_certain(
    overrides: list[str], certain: int, data_dir: Path
) -> None:
    found = scores(data_dir, "model.width=8", "model.heads=2", *overrides)
    assert found["certain"] == certain
    assert found["exact"] is not None
    assert found["exact"] >= certain


def test_several_sentences_that_fill_a_narrow_embedding_are_not_certain(data_dir: Path) -> None:
    narrow = ["model.dropout=0", "model.width=16", "fl_setting.capture.batch_size=5", "fl_setting.victims=1"]
    assert scores(data_dir, *narrow)["certain"] == 0


def test_where_noise_hides_all_words_the_attack_comes_to_an_end(data_dir: Path) -> None:
    hidden = scores(
        data_dir, "model.dropout=0", "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=10",
        "fl_setting.victims=4",
    )  # fmt: skip
    assert hidden["overlap"] is not None
    assert hidden["overlap"] < 0.1


@pytest.mark.parametrize("overrides", [
    ["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-2"],
    ["defense=[gradient_pruning]", "defense.gradient_pruning.fraction=0.99"],
    ["defense=[gradient_quantization]", "defense.gradient_quantization.bits=8"],
])  # fmt: skip
def test_the_last_layer_spells_translations_out_in_spite_of_dropout(overrides: list[str], data_dir: Path) -> None:
    assert scores(data_dir, *overrides)["exact_target"] == 1


@pytest.mark.parametrize("overrides", [
    ["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3"],
    ["defense=[noisy_gradients,gradient_pruning]", "defense.noisy_gradients.sigma=1e-4"],
])  # fmt: skip
def test_where_nothing_is_dropped_noise_leaves_both_sentences(overrides: list[str], data_dir: Path) -> None:
    assert scores(data_dir, "model.dropout=0", *overrides)["exact"] == 1


@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_translations_of_several_pairs_are_spelled_out_in_spite_of_noise(dropout: str, data_dir: Path) -> None:
    noisy = ["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=3e-3", f"model.dropout={dropout}"]
    found = scores(data_dir, "fl_setting.capture.batch_size=2", "fl_setting.victims=1", *noisy)
    assert found["exact_target"] == 1
    assert found["certain"] == 0


def test_a_gradient_that_is_not_finite_gives_no_sentence(data_dir: Path) -> None:
    spec, out = seen_by_attack(given(data_dir))
    seen = out.seen.take(slice(0, 1))  # type: ignore[union-attr]
    broken = type(seen)(**{**vars(seen), "delta": {n: torch.full_like(d, torch.nan) for n, d in seen.delta.items()}})
    guess = spec.attack(broken, out.known.only(spec.attack.needs), {}, Bench(), Rng(0))
    assert isinstance(guess, Transcription)
    assert float(guess.diagnostics["certain"]) == 0


@pytest.mark.parametrize("overrides", [[], ["model.dropout=0", "fl_setting.capture.batch_size=2"]])
def test_it_runs_on_one_device(
    overrides: list[str], data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noisy = ["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3", "fl_setting.victims=1", *overrides]
    with pretending(monkeypatch):
        record = Place("cuda", tmp_path, "data", small=True).run(*given(data_dir, *noisy))
    assert record["environment"]["device"] == "cuda"


def test_both_sentences_are_written_side_by_side(data_dir: Path, privsweep: Privsweep, tmp_path: Path) -> None:
    assert privsweep(*given(data_dir, "fl_setting.victims=1"), tiny=False) == 0
    [text] = [path.read_text() for path in tmp_path.glob("outputs/runs/*/sentences.md")]
    [truth] = [line.removeprefix("- truth: ") for line in text.splitlines() if line.startswith("- truth")]
    assert f"- guess: {truth}" in text
    source, _, target = truth.partition(" \\| ")
    assert target == source.replace("en", "de")


@pytest.mark.parametrize(("overrides", "reason"), [
    (["dataset=digits", "model=lenet"], "attack=dager: reads sentences, and the data are images"),
    (["attack=iga"], "attack=iga: works on images, and the dataset holds pairs of sentences.*take attack=dager"),
    (["attack=update_membership", "dataset.prior_size=20"], "works on images, and the dataset holds pairs"),
    (["fl_setting.victim_choice=every_class"], "victim_choice=every_class: goes by the class of an example.*random"),
    (["fl_setting.capture.what=difference"], "fl_setting.optimizer=adam a weight difference is not a multiple"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_line(overrides: list[str], reason: str, data_dir: Path) -> None:
    images = overrides[0] == "dataset=digits"
    keep = [o for o in given(data_dir) if not (images and o.startswith(("dataset.", "model.")))]
    with pytest.raises(UserError, match=reason) as error:
        seen_by_attack([*keep, *overrides])
    assert "\n" not in str(error.value)
