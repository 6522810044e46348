"""Pairs of sentences in two gzipped text files, a sentence a line: reading, words, vocabularies."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from privsweep.dataset.npz_format import reason
from privsweep.interface.data import TokenSet
from privsweep.interface.errors import UserError
from privsweep.interface.translation import SPECIAL, Vocabulary

Words = list[str]
Pair = tuple[Words, Words]  # a sentence, and its translation
# Letters and digits, joined by an apostrophe or a hyphen inside (don't, T-shirt); every other mark by itself.
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def words_of(sentence: str) -> Words:
    """The words and marks of a sentence, in its own case."""
    return _WORD.findall(sentence)


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a gzipped UTF-8 file; raises UserError, opening with ``what``, where it cannot be read."""
    try:
        return gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{what}: {path} is no gzipped text ({reason(error)}); replace the file") from error


def pairs_of(paths: Sequence[Path], what: str) -> list[Pair]:
    """The pairs of two files, line by line; raises UserError where one has more lines than the other."""
    first, second = (lines_of(path, what) for path in paths)
    if len(first) != len(second):
        raise UserError(
            f"{what}: {paths[0]} has {len(first)} lines, {paths[1].name} {len(second)}; every sentence needs its "
            "translation, so replace the files"
        )
    return [(words_of(a), words_of(b)) for a, b in zip(first, second, strict=True)]


def vocabulary(sentences: Iterable[Words], least: int) -> Vocabulary:
    """The words that occur ``least`` times or more, the most frequent first, behind the special ones."""
    counts = Counter(word for words in sentences for word in words)
    kept = sorted((word for word, n in counts.items() if n >= least), key=lambda word: (-counts[word], word))
    return Vocabulary((*SPECIAL, *kept))


def encoded(pairs: Sequence[Pair], source: Vocabulary, target: Vocabulary, words: int) -> TokenSet:
    """Tokens and labels as a TranslationDomain has them, of pairs of at most that many words each."""
    length = words + 2
    theirs = torch.tensor([source.encode(pair[0], length) for pair in pairs]).view(-1, length)
    ours = torch.tensor([target.encode(pair[1], length) for pair in pairs]).view(-1, length)
    return TokenSet(torch.cat((theirs, ours[:, :-1]), 1), ours[:, 1:].contiguous())
