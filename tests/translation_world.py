"""A language of a dozen words, translated word by word, in Multi30k's files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from privsweep.dataset.multi30k import Multi30k
from privsweep.interface.data import Data, TextDomain, TokenSet
from privsweep.interface.randomness import Rng
from privsweep.model.translation_transformer import TranslationTransformer

WORDS = {
    "a": "ein", "man": "Mann", "dog": "Hund", "runs": "rennt", "sits": "sitzt", "in": "in", "green": "grünem",
    "grass": "Gras", "old": "alter", "and": "und",
}  # fmt: skip
SIZES = {"train": 80, "val": 12, "test_2016_flickr": 16}


def sentence(rng: Rng) -> list[str]:
    """Two to six words."""
    words = sorted(WORDS)
    count = 2 + int(rng.child("length").permutation(5)[0])
    return [words[int(k)] for k in rng.permutation(len(words))[:count]]


def write_pairs(data_dir: Path) -> Path:
    """The six files below ``data_dir``, which is returned."""
    folder = data_dir / "multi30k"
    folder.mkdir(parents=True)
    for split, size in SIZES.items():
        pairs = [sentence(Rng(0, ("pairs", split, n))) for n in range(size)]
        english = "".join(f"{' '.join(words)}.\n" for words in pairs)
        german = "".join(f"{' '.join(WORDS[word] for word in words)}.\n" for words in pairs)
        (folder / f"{split}.en.gz").write_bytes(gzip.compress(english.encode()))
        (folder / f"{split}.de.gz").write_bytes(gzip.compress(german.encode()))
    return data_dir


def dataset(data_dir: Path, **changes: Any) -> Multi30k:
    values = {
        "train_size": None, "validation_size": None, "test_size": None, "prior_size": 0, "min_frequency": 1,
        "max_words": 7,
    }  # fmt: skip
    return Multi30k(data_dir=data_dir, **{**values, **changes})


def pairs(data_dir: Path, **changes: Any) -> Data[TokenSet, TextDomain]:
    """Loaded, from files that are written first."""
    return dataset(write_pairs(data_dir), **changes).load(Rng(0))


def transformer(**changes: Any) -> TranslationTransformer:
    return TranslationTransformer(
        **{"width": 16, "heads": 2, "layers": 1, "feedforward": 16, "dropout": 0.1, **changes}
    )
