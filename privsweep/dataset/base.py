"""What all datasets have in common: which images are drawn, and how they are converted."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from privsweep.dataset.canaries import set_aside
from privsweep.dataset.npz_format import Arrays
from privsweep.dataset.pixels import Channels, check_resize, recolour, resized, statistics
from privsweep.dataset.superclasses import relabelled, table_of
from privsweep.interface.beside import Kinds
from privsweep.interface.component import UnlessZero, component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Data, Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.interface.randomness import Rng


@component
class Shaping:
    """The fields that all choices of the ``dataset`` group share."""

    train_size: Annotated[int, Field(ge=1)] | None  # training images, drawn at random; None: all
    test_size: Annotated[int, Field(ge=1)] | None  # test images, drawn at random; None: all
    prior_size: Annotated[int, Field(ge=0)]  # images held out for the adversary
    canaries: UnlessZero[Annotated[int, Field(ge=0)]]  # training images with a wrong label; half are trained on
    superclasses: UnlessZero[list[list[Annotated[int, Field(ge=0)]]]]  # of classes each; []: labels are the classes
    resize: Annotated[int, Field(ge=1)] | None  # side of the square that images are scaled to; None: as they are
    channels: Channels
    normalize: bool  # whether inputs are standardised by the training images' channel mean and deviation

    def files(self) -> DataFiles | None:
        """Which files hold the dataset; None, as here, where there are none."""
        return None

    def shape(self, name: str, arrays: Arrays, rng: Rng) -> Data:
        """The dataset as a federation uses it: uint8 ``[n, C, H, W]``, int64 labels, on the CPU.

        What is drawn depends on the stream ``rng`` and the number of images alone. Images keep their order;
        a larger ``train_size`` adds to a smaller one, and never takes from the prior. The prior is of training images;
        where ``train_size`` leaves too few, test images that ``test_size`` leaves out make up for them.
        Of ``arrays`` that are outlined images are on the meta device, and the domain is as if not normalised.
        Raises UserError where more images are asked for than there are.
        """
        split = partial(self._split, blank=arrays.outlined)
        total = len(arrays.train_images)
        kept = total - self.prior_size if self.train_size is None else self.train_size
        tests = len(arrays.test_images)
        spare = 0 if self.test_size is None else max(0, tests - self.test_size)
        if kept > total or kept + self.prior_size > total + spare or kept < 1:
            and_ = f" and {spare} test images that dataset.test_size={self.test_size} leaves" if spare else ""
            raise UserError(
                f"dataset={name}: dataset.train_size={_shown(self.train_size)} and "
                f"dataset.prior_size={self.prior_size} do not fit into {total} training images{and_}; "
                f"take {_fitting(self.train_size, self.prior_size, total, spare)}"
            )
        if self.test_size is not None and self.test_size > tests:
            raise UserError(
                f"dataset={name}: dataset.test_size={self.test_size} is more than the {tests} test images; "
                f"take dataset.test_size={tests} or null"
            )
        if self.resize is not None:
            count = kept + self.prior_size + (tests if self.test_size is None else self.test_size)
            check_resize(self.resize, count, f"dataset={name}")
        order = rng.child("train").permutation(total)
        train = split(arrays.train_images, arrays.train_labels, order[:kept])
        held = min(self.prior_size, total - kept)
        prior = split(arrays.train_images, arrays.train_labels, order[total - held :]) if held else None
        order = rng.child("test").permutation(tests)
        test = split(arrays.test_images, arrays.test_labels, order[: self.test_size])
        more = self.prior_size - held
        if self.test_size is not None and more:
            rest = order[self.test_size : self.test_size + more]
            spare_images = split(arrays.test_images, arrays.test_labels, rest)
            prior = spare_images if prior is None else prior.with_more(spare_images)
        classes, kinds, canaries = arrays.classes, None, None
        if self.superclasses:
            if arrays.multilabel:
                raise UserError(
                    f"dataset.superclasses={shown(self.superclasses)}: images of dataset={name} have several labels; "
                    "take []"
                )
            superclass = table_of(self.superclasses, classes, name)
            kinds = Kinds(train.labels, None if prior is None else prior.labels, superclass)
            train, test = (relabelled(split, superclass) for split in (train, test))
            prior = None if prior is None else relabelled(prior, superclass)
            classes = len(self.superclasses)
        if self.canaries and not arrays.multilabel:  # which train no classifier
            train, canaries = set_aside(name, train, self.canaries, classes, rng.child("canaries"))
            kinds = None
        channels, height, width = train.images.shape[1:]
        mean, std = (0.0,) * channels, (1.0,) * channels
        if self.normalize and not arrays.outlined:
            mean, std = statistics(train.images)
        domain = Domain((channels, height, width), classes, mean, std)
        return Data(name, train, test, domain, arrays.multilabel, prior, more, canaries=canaries, kinds=kinds)

    def _split(self, images: np.ndarray, labels: np.ndarray, index: Tensor, blank: bool) -> ImageSet:
        chosen = slice(None) if len(index) == len(images) else index.sort().values.numpy()
        if blank:
            pixels = torch.empty(len(index), *images.shape[1:], dtype=torch.uint8, device="meta")
        else:
            pixels = torch.from_numpy(images[chosen])
        pixels = pixels.permute(0, 3, 1, 2)
        shaped = resized(recolour(pixels, self.channels), self.resize)
        return ImageSet(shaped.contiguous(), torch.from_numpy(labels[chosen]))


def _shown(value: int | None) -> str:
    return "null" if value is None else str(value)


def _fitting(train_size: int | None, prior_size: int, total: int, spare: int) -> str:
    """Values that fit into ``total`` training images and ``spare`` test images, any of which will do."""
    if train_size is None:
        return f"dataset.prior_size={total // 2}, which leaves as many to train on"
    kept, held = min(total, total + spare - prior_size), total + spare - train_size
    fitting = [f"dataset.train_size={kept}"] if kept > 0 else []
    fitting += [f"dataset.prior_size={held}"] if 0 < held < prior_size and train_size <= total else []
    return " or ".join(fitting) or f"dataset.train_size={total - total // 2} and dataset.prior_size={total // 2}"
