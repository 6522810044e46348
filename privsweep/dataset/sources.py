"""Where the official copies are, and how each becomes the members of a prepared `.npz`.

Every loader takes an empty folder to download into. Its files are checked against the publisher's MD5
by torchvision, or by the digests that the medmnist package lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the names of datasets are told without PyTorch
    from privsweep.dataset.image_tree import Tree
    from privsweep.dataset.pixels import Channels

Loader = Callable[[Path], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Official:
    """One published dataset."""

    load: Loader  # downloads into the folder and converts
    urls: Callable[[], list[str]]  # any of them tells whether the network reaches the publisher


@dataclass(frozen=True)
class ByHand:
    """A dataset that nobody hands out without an account, converted from a folder of its images."""

    get: str  # how the user comes by the folder: the beginning of a sentence that goes on with "and run"
    scan: Callable[[Path, float, str], Tree]  # as privsweep.dataset.image_tree.scan
    side: int | None  # in pixels, of the squares that images are scaled to; None: as they are
    channels: Channels


def _members(splits: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Members from (images, labels) of the training and the test split."""
    from privsweep.dataset.npz_format import MEMBERS

    arrays = [a for images, labels in splits for a in (images, np.asarray(labels, dtype=np.uint8)[:, None])]
    return dict(zip(MEMBERS, (np.ascontiguousarray(a) for a in arrays), strict=True))


def _mnist_like(cls: str) -> Official:
    """LeCun et al. (1998) and Xiao et al. (2017): the idx files."""

    def load(folder: Path) -> dict[str, np.ndarray]:
        from torchvision import datasets

        parts = [getattr(datasets, cls)(folder, train=train, download=True) for train in (True, False)]
        return _members([(part.data.numpy(), part.targets.numpy()) for part in parts])

    def urls() -> list[str]:
        from torchvision import datasets

        kind = getattr(datasets, cls)
        return [mirror + kind.resources[0][0] for mirror in kind.mirrors]

    return Official(load, urls)


def _emnist() -> Official:
    """The letters of Cohen et al. (2017): published lying on their side and counted from 1."""

    def load(folder: Path) -> dict[str, np.ndarray]:
        from torchvision.datasets import EMNIST

        parts = [EMNIST(folder, split="letters", train=train, download=True) for train in (True, False)]
        return _members([(part.data.numpy().transpose(0, 2, 1), part.targets.numpy() - 1) for part in parts])

    def urls() -> list[str]:
        from torchvision.datasets import EMNIST

        return [EMNIST.url]

    return Official(load, urls)


def _cifar(cls: str) -> Official:
    """Krizhevsky (2009); CIFAR-100 with its fine labels."""

    def load(folder: Path) -> dict[str, np.ndarray]:
        from torchvision import datasets

        parts = [getattr(datasets, cls)(folder, train=train, download=True) for train in (True, False)]
        return _members([(part.data, part.targets) for part in parts])

    def urls() -> list[str]:
        from torchvision import datasets

        return [getattr(datasets, cls).url]

    return Official(load, urls)


def _medmnist(flag: str, size: int) -> Official:
    """Yang et al. (2023), ``size`` pixels a side: published in this very format; the validation split is kept."""
    suffix = "" if size == 28 else f"_{size}"

    def load(folder: Path) -> dict[str, np.ndarray]:
        from medmnist.info import INFO
        from torchvision.datasets.utils import download_url

        # Not medmnist's own download(): it hides what went wrong, even an interrupt from the keyboard.
        download_url(INFO[flag][f"url{suffix}"], folder, f"{flag}.npz", INFO[flag][f"MD5{suffix}"])
        with np.load(folder / f"{flag}.npz", allow_pickle=False) as archive:
            return dict(archive)

    def urls() -> list[str]:
        from medmnist.info import INFO

        return [INFO[flag][f"url{suffix}"]]

    return Official(load, urls)


OFFICIAL: dict[str, Official] = {
    "mnist": _mnist_like("MNIST"),
    "fashion_mnist": _mnist_like("FashionMNIST"),
    "emnist": _emnist(),
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    **{
        flag if size == 28 else f"{flag}_{size}": _medmnist(flag, size)
        for flag in ("pneumoniamnist", "dermamnist", "pathmnist", "chestmnist")
        for size in (28, 64, 128, 224)
    },
}
_MEDICAL = {"pneumoniamnist": 5332, "dermamnist": 9012, "pathmnist": 97176, "chestmnist": 100901}
# Training and test images together, as their publishers count them.
PUBLISHED = {
    "mnist": 70_000, "fashion_mnist": 70_000, "emnist": 145_600, "cifar10": 60_000, "cifar100": 60_000,
    "medical_mnist": 58_954,
    **{name: _MEDICAL[name.partition("_")[0]] for name in OFFICIAL if name.partition("_")[0] in _MEDICAL},
}  # fmt: skip


def _by_class(root: Path, test_fraction: float, what: str) -> Tree:
    from privsweep.dataset.image_tree import scan

    return scan(root, test_fraction, what)


def _by_identity(root: Path, test_fraction: float, what: str) -> Tree:
    from privsweep.dataset.celeba_hq import scan_identities

    return scan_identities(root, test_fraction, what)


BY_HAND = {
    "medical_mnist": ByHand("get the images, a folder a class,", _by_class, side=None, channels="same"),
    "celeba_hq": ByHand(
        "get CelebAMask-HQ (github.com/switchablenorms/CelebAMask-HQ), put identity_CelebA.txt of CelebA "
        "(mmlab.ie.cuhk.edu.hk/projects/CelebA.html) into its folder,",
        _by_identity,
        side=64,
        channels="rgb",
    ),
}
