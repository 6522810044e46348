"""Multi30k: captions of photographs in English, each with its translation into German."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from privsweep.dataset.npz_format import checksum
from privsweep.dataset.sentence_pairs import Pair, encoded, lines_of, pairs_of, vocabulary
from privsweep.interface.component import component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Data, TextDomain, TokenSet
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.folders import check_folder
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import TranslationDomain

SPLITS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
LANGUAGES = ("en", "de")
Size = Annotated[int, Field(ge=1)] | None  # None: all


@component
class Multi30k:
    """Task 1 of Multi30k (Elliott et al., 2016), the official raw files ``<data_dir>/multi30k/train.en.gz`` and so on.

    English is the source, German the target. The vocabularies are those of the whole training file whatever is drawn of
    it, so that everybody who uses the data has the same tokens. A pair with a sentence of more than ``max_words`` words
    is left out, of every split.
    """

    data_dir: Path
    train_size: Size  # training pairs, drawn at random
    validation_size: Size
    test_size: Size
    prior_size: Annotated[int, Field(ge=0)]  # training pairs held out for the adversary
    min_frequency: Annotated[int, Field(ge=1)]  # words that are rarer in training become <unk>
    max_words: Annotated[int, Field(ge=1)]

    def files(self) -> DataFiles:
        """The six files, there or not; raises UserError where ``data_dir`` can hold none."""
        check_folder("data_dir", self.data_dir)
        name, absent = "dataset=multi30k", self._absent()
        place = str((self.data_dir / "multi30k").absolute())
        if absent is not None:
            return DataFiles(name, place, None, 0, absent)
        about = [path.stat() for path in self._paths()]
        digest = hashlib.sha256(repr([(a.st_size, a.st_mtime_ns) for a in about]).encode()).hexdigest()[:16]
        return DataFiles(name, place, digest, max(a.st_mtime_ns for a in about), "")

    def fingerprint(self) -> str:
        """A checksum of the sentences, however they are compressed; raises AbsentError where a file is missing."""
        self._there()
        return checksum(
            (path.name, zlib.crc32("\n".join(lines_of(path, self._what())).encode())) for path in self._paths()
        )

    def load(self, rng: Rng) -> Data[TokenSet, TextDomain]:
        """Raises UserError where files are missing or malformed, or have too few pairs."""
        self._there()
        read = {split: pairs_of(self._of(file), self._what()) for split, file in SPLITS.items()}
        source, target = (vocabulary((pair[k] for pair in read["train"]), self.min_frequency) for k in (0, 1))
        short = {split: [p for p in pairs if max(map(len, p)) <= self.max_words] for split, pairs in read.items()}
        kept = self._kept(len(short["train"]))
        order = rng.child("train").permutation(len(short["train"])).tolist()

        def tokens(pairs: Sequence[Pair]) -> TokenSet:
            return encoded(pairs, source, target, self.max_words)

        def part(split: str, chosen: list[int]) -> TokenSet:
            return tokens([short[split][n] for n in sorted(chosen)])

        length = self.max_words + 2
        domain = TranslationDomain(2 * length - 1, len(source), len(target), source, target, length)
        held = part("train", order[len(order) - self.prior_size :]) if self.prior_size else None
        validation, test = (
            part(split, self._drawn(split, wanted, len(short[split]), rng))
            for split, wanted in (("validation", self.validation_size), ("test", self.test_size))
        )
        return Data("multi30k", part("train", order[:kept]), test, domain, prior=held, validation=validation)

    def _kept(self, total: int) -> int:
        kept = total - self.prior_size if self.train_size is None else self.train_size
        if kept < 1 or kept + self.prior_size > total:
            wanted = "null" if self.train_size is None else self.train_size
            raise UserError(
                f"{self._what()}: dataset.train_size={wanted} and dataset.prior_size={self.prior_size} do not fit "
                f"into the {total} training pairs of up to {self.max_words} words; lower one of them, or raise "
                "dataset.max_words"
            )
        return kept

    def _drawn(self, split: str, wanted: int | None, total: int, rng: Rng) -> list[int]:
        if total < (wanted or 1):
            raise UserError(
                f"{self._what()}: dataset.{split}_size={'null' if wanted is None else wanted}, and there are {total} "
                f"pairs of up to {self.max_words} words; lower it, or raise dataset.max_words"
            )
        return rng.child(split).permutation(total)[:wanted].tolist()

    def _what(self) -> str:
        return "dataset=multi30k"

    def _of(self, file: str) -> list[Path]:
        return [self.data_dir / "multi30k" / f"{file}.{language}.gz" for language in LANGUAGES]

    def _paths(self) -> list[Path]:
        return [path for file in SPLITS.values() for path in self._of(file)]

    def _absent(self) -> str | None:
        """That a file is missing, and what to do, in one line; None where all are there."""
        missing = [path for path in self._paths() if not path.is_file()]
        if not missing:
            return None
        return (
            f"{self._what()}: {missing[0]} is not there; put the raw files of task 1 there, gzipped "
            f"({', '.join(SPLITS.values())} in en and de, of the repository multi30k/dataset), or set data_dir"
        )

    def _there(self) -> None:
        if absent := self._absent():
            raise AbsentError(absent)
