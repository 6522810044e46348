"""What everything starts from: datasets, what is known about them, and architectures of networks.

Axes: ``n`` examples, ``C, H, W`` channels, height, width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from typing_extensions import TypeVar

from privsweep.interface.beside import Canaries, Kinds
from privsweep.interface.contents import Contents
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

Tensors = Mapping[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, class indices or probabilities) -> mean over examples


class _Classified:
    """What holds of examples of one class each."""

    @property
    def loss(self) -> Loss:
        """What training minimises, before any defence."""
        return cross_entropy

    def judged(self, labels: Tensor) -> Tensor:
        """Which labels count, bool of their shape: all."""
        return torch.ones_like(labels, dtype=torch.bool)


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On the device already, where every step would have to wait for the copy."""
    return torch.tensor(values, dtype=dtype, device=device)


@dataclass(frozen=True)
class Domain(_Classified):
    """What everybody knows of the data: the shape of an input, its scale and the number of classes."""

    shape: tuple[int, int, int]  # C, H, W
    classes: int
    mean: tuple[float, ...]  # of the [0, 1] pixels, a channel each; zeros where inputs are not normalised
    std: tuple[float, ...]  # ones where inputs are not normalised

    def _broadcast(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return _constants(values, like.dtype, like.device)[:, None, None]

    def inputs(self, pixels: Tensor) -> Tensor:
        """``[0, 1]`` pixels ``[..., C, H, W]`` to what a model is fed."""
        return (pixels - self._broadcast(self.mean, pixels)) / self._broadcast(self.std, pixels)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Model inputs ``[..., C, H, W]`` to the pixel scale; values outside ``[0, 1]`` are kept."""
        return inputs * self._broadcast(self.std, inputs) + self._broadcast(self.mean, inputs)

    def inputs_of(self, examples: ImageSet, index: Tensor | slice = slice(None)) -> Tensor:
        """What a model is fed of the chosen examples, ``[..., C, H, W]``."""
        return self.inputs(examples.pixels(index))

    def queries_of(self, examples: ImageSet, index: Tensor | slice = slice(None)) -> Tensor:
        """What a model is fed once it serves, when nobody knows the labels, ``[..., C, H, W]``."""
        return self.inputs_of(examples, index)

    def blank(self, count: int) -> Tensor:
        """Inputs ``[count, C, H, W]`` that say nothing, on the device in force."""
        return torch.zeros(count, *self.shape)

    def __str__(self) -> str:
        channels, height, width = self.shape
        return f"images of {height}x{width} with {channels} channel{'s' * (channels > 1)}"

    def box(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The smallest and the largest input that is an image, ``[C, 1, 1]`` each."""
        black = torch.zeros(self.shape[0], 1, 1, device=device)
        return self.inputs(black), self.inputs(black + 1)


@dataclass(frozen=True)
class ImageSet:
    """Images and labels, resident on one device."""

    images: Tensor  # uint8 [n, C, H, W]; of an outline on the meta device
    labels: Tensor  # int64 [n]; [n, classes] of 0 and 1 for multi-label data

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Float32 ``[0, 1]`` pixels of the chosen examples, a copy."""
        if isinstance(index, Tensor) and index.dim() == 1 and index.dtype == torch.int64:
            chosen = self.images.index_select(0, index.to(self.images.device))  # on a CPU in a twentieth of the time
        else:
            chosen = self.images[index]
        return chosen.float().div_(255)

    def mean(self) -> Tensor:
        """The mean image, ``[C, H, W]`` in [0, 1]."""
        return self.images.sum(0, dtype=torch.int64).float() / (255 * len(self))

    def take(self, index: Tensor) -> ImageSet:
        return ImageSet(self.images[index], self.labels[index])

    def with_more(self, more: ImageSet) -> ImageSet:
        """These, and ``more`` behind them."""
        return ImageSet(torch.cat([self.images, more.images]), torch.cat([self.labels, more.labels]))

    def to(self, device: torch.device) -> ImageSet:
        """On that device, but for images without pixels."""
        return ImageSet(self.images if self.images.is_meta else self.images.to(device), self.labels.to(device))


def image_shape(domain: Domain | TextDomain, asker: str, instead: str) -> tuple[int, int, int]:
    """Channels, height and width, for what works on images alone.

    Raises UserError, opening with ``asker`` ("model"), where the data are none; ``instead`` is what could be taken.
    """
    if isinstance(domain, Domain):
        return domain.shape
    raise UserError(f"{asker}: works on images, and the dataset holds {domain}; take {instead}, or a dataset of images")


@dataclass(frozen=True)
class TextDomain(_Classified):
    """What everybody knows of sequences of tokens: their length, padding included, the vocabulary, the classes."""

    length: int
    vocabulary: int
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def inputs_of(self, examples: TokenSet, index: Tensor | slice = slice(None)) -> Tensor:
        """What a model is fed of the chosen examples: int64 ``[..., L]``."""
        return examples.tokens[index]

    def queries_of(self, examples: TokenSet, index: Tensor | slice = slice(None)) -> Tensor:
        """What a model is fed once it serves, when nobody knows the labels: int64 ``[..., L]``."""
        return self.inputs_of(examples, index)

    def blank(self, count: int) -> Tensor:
        """Inputs ``[count, L]`` that say nothing, on the device in force."""
        return torch.zeros(count, self.length, dtype=torch.int64)

    def sources(self, inputs: Tensor) -> Tensor:
        """What of inputs ``[..., L]`` is a client's own: all of it."""
        return inputs

    def words(self, tokens: Tensor) -> Tensor:
        """Which tokens are words, bool of their shape: all but those that mark starts, ends and padding."""
        return torch.ones_like(tokens, dtype=torch.bool)

    def text(self, tokens: Tensor) -> str:
        """A sequence in words, as far as they are known; here the numbers of its tokens."""
        return " ".join(map(str, tokens.tolist()))

    def __str__(self) -> str:
        return f"sequences of {self.length} tokens out of {self.vocabulary}"


@dataclass(frozen=True)
class TokenSet:
    """Sequences of tokens and labels, resident on one device."""

    tokens: Tensor  # int64 [n, L], below the size of the vocabulary
    labels: Tensor  # int64 [n]; [n, L'] where every place of an output sequence has its own

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor) -> TokenSet:
        return TokenSet(self.tokens[index], self.labels[index])

    def to(self, device: torch.device) -> TokenSet:
        return TokenSet(self.tokens.to(device), self.labels.to(device))


E = TypeVar("E", ImageSet, TokenSet, default=ImageSet)
D = TypeVar("D", Domain, TextDomain, default=Domain)


@dataclass(frozen=True)
class Data(Generic[E, D]):
    """A loaded dataset: of images, unless it says otherwise."""

    name: str
    train: E
    test: E
    domain: D
    multilabel: bool = False  # such data serve as an adversary's prior only
    prior: E | None = None  # training examples held out for the adversary; none of them is in ``train``
    prior_of_test: int = 0  # how many of them, the last ones, are of the test split for want of others
    validation: E | None = None  # a split of its own to watch the training on, where the publisher gives one
    subset: tuple[int, int] | None = None  # images in the file, and as published, where those are more
    canaries: Canaries | None = None
    kinds: Kinds | None = None  # None: labels are the classes, or there are canaries

    def to(self, device: torch.device) -> Data[E, D]:
        prior = None if self.prior is None else self.prior.to(device)
        validation = None if self.validation is None else self.validation.to(device)
        train, test = self.train.to(device), self.test.to(device)
        canaries = self.canaries and self.canaries.to(device)
        return replace(self, train=train, test=test, prior=prior, validation=validation, canaries=canaries)


def images_to_train_on(data: Data) -> None:
    """Raises UserError where the dataset has none, only their shape."""
    if not len(data.train):
        raise UserError(f"dataset={data.name}: has no images to train on; take fl_setting=captured, or another dataset")


class Dataset(Contents, Protocol):
    """A choice of the ``dataset`` group."""

    @property
    def prior_size(self) -> int:
        """Training images held out for the adversary."""
        ...

    def load(self, rng: Rng) -> Data:
        """The images, in an order that depends on ``rng`` alone; missing files are fetched."""
        ...


class Architecture(Protocol):
    """A choice of the ``model`` group."""

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        """A freshly initialised network with named children. Where it is to be cut, it must be an ``nn.Sequential``.

        Raises UserError where the architecture does not fit the domain.
        """
        ...
