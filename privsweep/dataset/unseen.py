"""What is known of images that nobody here has: of a federation that ran elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from privsweep.interface.component import component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Data, Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

Side = Annotated[int, Field(ge=1, le=4096)]
Mean = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@component
class Unseen:
    """No images, but their shape, their number of classes and the scale on which the model was fed with them."""

    shape: tuple[Literal[1, 3], Side, Side]  # channels, height, width
    classes: Annotated[int, Field(ge=2, le=1_000_000)]
    mean: list[Mean] | None  # of the [0, 1] pixels, a channel each, that inputs were standardised with; None: not
    std: list[Deviation] | None

    def __post_init__(self) -> None:
        """Raises UserError unless mean and std go together, with a number for each channel."""
        for name in ("mean", "std"):
            given, other = getattr(self, name), self.std if name == "mean" else self.mean
            if (given is None and other is not None) or (given is not None and len(given) != self.shape[0]):
                raise UserError(
                    f"dataset.{name}={'null' if given is None else given}: inputs are standardised by a mean and a std "
                    f"for each of {self.shape[0]} channels; give as many numbers to both, or null"
                )

    @property
    def prior_size(self) -> int:
        """There are no images to hold out."""
        return 0

    def files(self) -> DataFiles | None:
        """None are read."""
        return None

    def fingerprint(self) -> str:
        """All is in the configuration."""
        return ""

    def load(self, rng: Rng) -> Data:
        """Splits without an image."""
        none = ImageSet(torch.empty(0, *self.shape, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        mean, std = self.mean or [0.0] * self.shape[0], self.std or [1.0] * self.shape[0]
        return Data("unseen", none, none, Domain(self.shape, self.classes, tuple(mean), tuple(std)))
