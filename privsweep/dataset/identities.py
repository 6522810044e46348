"""A dataset of people, of whom the most frequent ones are the classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from privsweep.dataset.npz_format import Arrays
from privsweep.dataset.prepared import Prepared
from privsweep.interface.component import component
from privsweep.interface.errors import UserError


@component
class Identities(Prepared):
    """A prepared file whose classes are numbered from the most frequent identity on; the first ones are kept."""

    identities: Annotated[int, Field(ge=2)]

    def arrays(self, pixels: bool = True) -> Arrays:
        """The images of those identities; raises UserError, too, where the file has not as many."""
        every = super().arrays(pixels)
        if self.identities > every.classes:
            raise UserError(
                f"dataset.identities={self.identities}: {self.name}.npz has {every.classes} identities; "
                f"take {every.classes} or fewer"
            )
        train, test = every.train_labels < self.identities, every.test_labels < self.identities
        return replace(
            every,
            train_images=every.train_images[train],
            train_labels=every.train_labels[train],
            test_images=every.test_images[test],
            test_labels=every.test_labels[test],
            classes=self.identities,
        )
