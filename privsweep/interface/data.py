"""What everything starts from: datasets, what is known of them, and architectures of networks.

Axes: ``n`` examples, ``C, H, W`` channels, height, width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from privsweep.interface.randomness import Rng

Tensors = Mapping[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, class indices or probabilities) -> mean over examples


@dataclass(frozen=True)
class Domain:
    """What everybody knows of the data: the shape of an input, its scale and the number of classes."""

    shape: tuple[int, int, int]  # C, H, W
    classes: int
    mean: tuple[float, ...]  # of the [0, 1] pixels, a channel each; zeros where inputs are not normalised
    std: tuple[float, ...]  # ones where inputs are not normalised

    def _broadcast(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]

    def inputs(self, pixels: Tensor) -> Tensor:
        """``[0, 1]`` pixels ``[..., C, H, W]`` to what a model is fed."""
        return (pixels - self._broadcast(self.mean, pixels)) / self._broadcast(self.std, pixels)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Model inputs ``[..., C, H, W]`` to the pixel scale; values outside ``[0, 1]`` are kept."""
        return inputs * self._broadcast(self.std, inputs) + self._broadcast(self.mean, inputs)

    def box(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The smallest and the largest input that is an image, ``[C, 1, 1]`` each."""
        black = torch.zeros(self.shape[0], 1, 1, device=device)
        return self.inputs(black), self.inputs(black + 1)


@dataclass(frozen=True)
class ImageSet:
    """Images and labels, resident on one device."""

    images: Tensor  # uint8 [n, C, H, W]
    labels: Tensor  # int64 [n]; [n, classes] of 0 and 1 for multi-label data

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Float32 ``[0, 1]`` pixels of the chosen examples."""
        return self.images[index].float().div_(255)

    def take(self, index: Tensor) -> ImageSet:
        return ImageSet(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> ImageSet:
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """A loaded dataset."""

    name: str
    train: ImageSet
    test: ImageSet
    domain: Domain
    multilabel: bool = False  # such data serve as an adversary's prior only
    prior: ImageSet | None = None  # training images held out for the adversary; none of them is in ``train``

    def to(self, device: torch.device) -> Data:
        prior = None if self.prior is None else self.prior.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), prior=prior)


@dataclass(frozen=True)
class DataFiles:
    """The files that a dataset, or a checkpoint, is read from."""

    name: str  # that the last checksum is known by where the files are gone: dataset=mnist
    place: str  # absolute
    state: str | None  # digest of names, sizes and times of all files; None: they are not there
    changed_ns: int  # modification time of the youngest file, in nanoseconds since 1970
    absent: str  # why nothing can be read without a download, in one line that names a remedy


@runtime_checkable
class Contents(Protocol):
    """What is read from files and told apart by their contents, wherever they lie."""

    def files(self) -> DataFiles | None:
        """Which files there are, as they are now; None where none are needed. Reads none, and fetches none."""
        ...

    def fingerprint(self) -> str:
        """A checksum of the contents, which enters every signature; missing files of published datasets are fetched."""
        ...


class Dataset(Contents, Protocol):
    """A choice of the ``dataset`` group."""

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
