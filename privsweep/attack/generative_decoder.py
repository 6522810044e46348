"""The generative decoder: a network from activations back to images, trained on the adversary's own data."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from privsweep.activation_inversion.decoder_training import Make, decode, train_decoders
from privsweep.activation_inversion.mirror_decoder import mirror, unmirrored
from privsweep.activation_inversion.own_activations import OwnActivations, Part, Source
from privsweep.activation_inversion.residual_decoder import residual
from privsweep.attack.base import AttackBase
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Optimizer

Count = Annotated[int, Field(ge=1)]
_TWICE = 64  # own images, asked for twice: of few the same of a small collection of noises might be drawn again


@component
class GenerativeDecoder(AttackBase):
    """Trains a decoder on what is sent for the adversary's own images, and decodes the victims' activations.

    Zen, section 4.2; the inverse network of He et al., "Model inversion attacks against collaborative inference"
    (2019). Own images pass the client's part, as a victim's do (in batches as large, where it normalises by the batch),
    or are given to the client as queries, and the decoder learns to return their pixels. It is the mirror image of the
    client's part, as Zen's is, or a residual network, which knows nothing of that part. Where only the mean of a
    message is seen, the decoded mean is the answer for each of its images.
    """

    decoder: Literal["mirror", "residual"]
    learns_from: Literal["client_part", "queries"]
    kernel: Count | None
    width: Count | None
    blocks: Count
    epochs: Count
    batch_size: Count
    lr: Annotated[float, Field(gt=0)]
    memory: ResourceOnly[Annotated[float, Field(ge=0)]]  # GiB

    observes: ClassVar[type] = Activations

    def __post_init__(self) -> None:
        """Raises UserError for a mirror image of a client's part that is not known."""
        if self.learns_from == "queries" and self.decoder == "mirror":
            raise UserError(
                "attack.learns_from=queries: the mirror decoder needs the client's part itself; take "
                "attack.decoder=residual, or learns_from=client_part"
            )

    @property
    def needs(self) -> frozenset[str]:
        how = {"query"} if self.learns_from == "queries" else {"model", "message_size"}
        return frozenset({"prior", "domain"} | how)

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        return self.needs

    @property
    def threat(self) -> ThreatModel:
        if self.learns_from == "queries":
            return ThreatModel(frozenset({"test"}), frozenset({"server"}), "black-box")
        return ThreatModel(frozenset({"train", "test"}), frozenset({"server"}), "white-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        image_shape(domain, "attack", "attack=shadow_transcription")
        if prior is None or not len(prior):
            return "the decoder needs images of its own; hold some out: dataset.prior_size=1000"
        if prior.images.shape[1:] != domain.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (prior.images.shape[1:], domain.shape))
            return f"dataset@prior: its images are {theirs}, the target's {ours}; set prior.resize and prior.channels"
        return unmirrored(model, domain) if self.decoder == "mirror" else None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The decoder's weights, and its ``loss`` ``[epochs]``: mean squared error of own images' pixels in [0, 1]."""
        schedule = LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, self.batch_size)
        own = self._own_activations(known, rng.child("client's part"))
        prepared = train_decoders(self._make(known), own, schedule, [rng], bench)
        return {**prepared, "loss": prepared["loss"][0]}

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        pixels = decode(self._make(known), prepared, seen.z.flatten(0, 1))
        pixels = pixels.view(*seen.z.shape[:2], *known.domain.shape)
        images = known.domain.inputs(pixels).expand(-1, seen.examples, -1, -1, -1)
        return Reconstruction(images=images, diverged=~images.isfinite().flatten(1).all(1))

    def _own_activations(self, known: Knowledge, rng: Rng) -> OwnActivations:
        if self.learns_from == "client_part" and known.message_size:
            return OwnActivations([Part(known.model, rng)], known.prior, known.domain, 0.0, known.message_size)
        source: Source = known.query if self.learns_from == "queries" else Part(known.model, rng)
        some = known.domain.inputs_of(known.prior, slice(_TWICE))
        anew = not torch.equal(source(some), source(some))  # a decoder would learn kept draws by heart
        return OwnActivations([source], known.prior, known.domain, 0.0 if anew else self.memory)

    def _make(self, known: Knowledge) -> Make:
        if self.decoder == "residual":
            return partial(residual, domain=known.domain, width=self.width or 32, blocks=self.blocks)
        return lambda features: mirror(known.model, known.domain, self.kernel, self.width)
