"""Translation: what is known of pairs of sentences, and the special tokens of their vocabularies.

Axes: ``n`` pairs, ``Ls, Lt`` places of a source and of a target sequence, ``K`` words of the target's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Loss, TextDomain, TokenSet

UNKNOWN, PADDING, START, END = range(4)
SPECIAL = ("<unk>", "<pad>", "<bos>", "<eos>")


@dataclass(frozen=True)
class Vocabulary:
    """The words of one language in the order of their tokens; the first four are ``SPECIAL``."""

    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    def encode(self, words: Sequence[str], length: int) -> list[int]:
        """``length`` tokens: a start, the words, an end, padding. The words must leave room for start and end."""
        tokens = [START, *(self._tokens.get(word, UNKNOWN) for word in words), END]
        return tokens + [PADDING] * (length - len(tokens))

    def text(self, tokens: Tensor) -> str:
        """The words up to the first end, apart by blanks, without starts and padding."""
        numbers = tokens.tolist()
        numbers = numbers[: numbers.index(END)] if END in numbers else numbers
        return " ".join(self.words[token] for token in numbers if token not in (START, PADDING))


def token_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy a token, padding left out: the mean over a sequence's tokens, then over sequences.

    Every sequence weighs alike, as every image does elsewhere, whatever it is batched with.
    ``outputs``: ``[n, K, Lt]``; ``labels``: int64 ``[n, Lt]``.
    """
    each = token_losses(outputs, labels)
    return (each.sum(1) / (labels != PADDING).sum(1).clamp_min(1)).mean()


def token_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of every place, ``[n, Lt]``; zero at padding."""
    flat = outputs.mT.flatten(0, 1)  # classes last: as a linear layer leaves them, so that nothing is copied
    return cross_entropy(flat, labels.flatten(), reduction="none", ignore_index=PADDING).view(labels.shape)


@dataclass(frozen=True)
class TranslationDomain(TextDomain):
    """What everybody knows of pairs of sentences in two languages.

    An input ``[Ls + Lt]`` is the source sequence and, beside it, the target sequence without its last token; the labels
    ``[Lt]`` are the target sequence without its first. So the n-th output is to say which word comes next, given all of
    the source and the target up to there. A model's outputs are ``[n, K, Lt]``. ``vocabulary`` is the size of the
    source's vocabulary, ``classes`` that of the target's.
    """

    source: Vocabulary
    target: Vocabulary
    source_length: int  # Ls

    @property
    def loss(self) -> Loss:
        return token_loss

    @property
    def target_length(self) -> int:
        return self.length - self.source_length

    def judged(self, labels: Tensor) -> Tensor:
        return labels != PADDING

    def sources(self, inputs: Tensor) -> Tensor:
        """The source sequences ``[..., Ls]`` of inputs."""
        return inputs[..., : self.source_length]

    def queries_of(self, examples: TokenSet, index: Tensor | slice = slice(None)) -> Tensor:
        """Source sentences whose translation is about to begin, ``[n, Ls + Lt]``."""
        return self.untranslated(self.sources(examples.tokens[index]))

    def untranslated(self, sources: Tensor) -> Tensor:
        """Inputs ``[n, Ls + Lt]`` whose target says no more than that it starts."""
        blank = torch.full((len(sources), self.target_length), PADDING, device=sources.device)
        blank[:, 0] = START
        return torch.cat((sources, blank), 1)

    def words(self, tokens: Tensor) -> Tensor:
        return (tokens != START) & (tokens != END) & (tokens != PADDING)

    def text(self, tokens: Tensor) -> str:
        """A source sequence ``[Ls]`` in words; an input ``[Ls + Lt]`` as both sentences, a bar between them."""
        sides = [self.source.text(self.sources(tokens))]
        if len(tokens) > self.source_length:
            sides.append(self.target.text(tokens[self.source_length :]))
        return " | ".join(sides)

    def __str__(self) -> str:
        return f"pairs of sentences of up to {self.source_length - 2} words"
