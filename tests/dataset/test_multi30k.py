"""Pairs of sentences: what becomes of the files, and what is wrong with them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import torch
from translation_world import SIZES, dataset, pairs, write_pairs

from privsweep.dataset.sentence_pairs import encoded, vocabulary, words_of
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import END, PADDING, START, UNKNOWN, TranslationDomain


def test_words_and_marks() -> None:
    assert words_of("Zwei Männer, die T-Shirts trugen.") == ["Zwei", "Männer", ",", "die", "T-Shirts", "trugen", "."]
    assert words_of("A man's dog isn't \"there\"") == ["A", "man's", "dog", "isn't", '"', "there", '"']


def test_rare_words_are_unknown_and_frequent_ones_come_first() -> None:
    words = vocabulary([["b", "a"], ["b", "c", "a"], ["b"]], least=2)
    assert words.words == ("<unk>", "<pad>", "<bos>", "<eos>", "b", "a")
    assert words.encode(["a", "c"], 5) == [START, 5, UNKNOWN, END, PADDING]
    assert words.text(torch.tensor([START, 4, UNKNOWN, END, 5, PADDING])) == "b <unk>"


def test_a_target_stands_beside_its_source_and_the_labels_are_one_ahead() -> None:
    english, german = vocabulary([["a", "b"]], 1), vocabulary([["x", "y", "z"]], 1)
    made = encoded([(["a", "b"], ["x", "y", "z"])], english, german, 3)
    assert made.tokens.tolist() == [[START, 4, 5, END, PADDING, START, 4, 5, 6]]
    assert made.labels.tolist() == [[4, 5, 6, END]]


def test_splits_lengths_and_vocabularies(tmp_path: Path) -> None:
    data = pairs(tmp_path)
    domain = data.domain
    assert isinstance(domain, TranslationDomain)
    assert data.validation is not None
    assert [len(data.train), len(data.validation), len(data.test)] == list(SIZES.values())
    assert (domain.source_length, domain.target_length, domain.length) == (9, 8, 17)
    assert domain.vocabulary == len(domain.source) == domain.classes == 4 + 10 + 1
    assert data.train.tokens.shape == (80, 17)
    assert data.train.labels.shape == (80, 8)
    assert data.train.tokens.max() < domain.vocabulary
    text = domain.text(domain.sources(data.train.tokens)[0])
    assert 3 <= len(text.split()) <= 7
    assert text.endswith(" .")
    moved = data.to(torch.device("cpu"))
    assert moved.validation is not None


def test_what_is_held_out_is_not_trained_on_and_long_pairs_are_left_out(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path)
    data = dataset(folder, train_size=30, prior_size=20, test_size=5).load(Rng(1))
    assert data.prior is not None
    assert (len(data.train), len(data.prior), len(data.test)) == (30, 20, 5)
    whole = dataset(folder).load(Rng(1))
    assert data.domain == whole.domain, "the vocabularies are those of the file"
    short = dataset(folder, max_words=5).load(Rng(0))
    assert 0 < len(short.train) < 80
    assert (short.train.tokens[:, 6] != PADDING).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_size": 70, "prior_size": 20},
            r"train_size=70 and dataset.prior_size=20 do not fit into the 80",
        ),
        ({"prior_size": 80}, r"train_size=null and dataset.prior_size=80"),
        ({"test_size": 17}, r"test_size=17, and there are 16 pairs of up to 7 words"),
        ({"max_words": 2}, r"raise dataset.max_words"),
    ],
)
def test_more_pairs_than_there_are(changes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        dataset(write_pairs(tmp_path), **changes).load(Rng(0))
    assert "\n" not in str(error.value)


def test_missing_and_spoilt_files(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match=r"train\.en\.gz is not there; put .* or set data_dir$"):
        dataset(tmp_path).load(Rng(0))
    files = dataset(tmp_path).files()
    assert files.state is None
    folder = write_pairs(tmp_path) / "multi30k"
    assert dataset(tmp_path).files().state is not None
    before = dataset(tmp_path).fingerprint()
    content = gzip.decompress((folder / "val.de.gz").read_bytes())
    (folder / "val.de.gz").write_bytes(gzip.compress(content, 1))
    assert dataset(tmp_path).fingerprint() == before, "however it is compressed"
    (folder / "val.de.gz").write_bytes(gzip.compress(content + b"ein Hund\n"))
    assert dataset(tmp_path).fingerprint() != before
    with pytest.raises(UserError, match=r"val\.en\.gz has 12 lines, val\.de\.gz 13"):
        dataset(tmp_path).load(Rng(0))
    (folder / "val.de.gz").write_bytes(b"plain text")
    with pytest.raises(UserError, match=r"val\.de\.gz is no gzipped text"):
        dataset(tmp_path).load(Rng(0))


@pytest.mark.skipif("PRIVSWEEP_DATA" not in os.environ, reason="set PRIVSWEEP_DATA to a folder of real datasets")
def test_the_real_files_are_what_their_publishers_say() -> None:
    folder = Path(os.environ["PRIVSWEEP_DATA"])
    if not (folder / "multi30k").is_dir():
        pytest.skip("no multi30k in PRIVSWEEP_DATA")
    data = dataset(folder, max_words=45).load(Rng(0))
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (29_000, 1_014, 1_000)
    assert (data.domain.vocabulary, data.domain.classes) == (11_385, 19_158)
