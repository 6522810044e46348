"""The generative decoder: a network from activations back to images, trained on the adversary's own data."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from privsweep.activation_inversion.decoder import mirror, start_at_mean
from privsweep.attack.base import AttackBase
from privsweep.exposure.activations import forwarded
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Activations, Knowledge, Reconstruction, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import Examples, LocalSchedule, Optimizer, Training, alike, replica
from privsweep.training.fit import fit

_WEIGHT = "weight:"  # names of the decoder's weights in what is prepared
_AT_ONCE = 256  # images that pass the client's part, or victims' that are decoded, together
_SPEAKS = 50  # steps between two lines of progress


@component
class GenerativeDecoder(AttackBase):
    """Trains the mirror image of the client's part on the adversary's own images, and decodes the victims' activations.

    Zen, section 4.2; the inverse network of He et al., "Model inversion attacks against collaborative inference"
    (2019). Own images pass the client's part, as a victim's do, and the decoder learns to return their pixels. Where
    only the mean of a message is seen, the decoded mean is the answer for each of its images.
    """

    kernel: Annotated[int, Field(ge=1)] | None
    width: Annotated[int, Field(ge=1)] | None
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)]
    memory: ResourceOnly[Annotated[float, Field(ge=0)]]  # GiB

    observes: ClassVar[type] = Activations
    needs: ClassVar[frozenset[str]] = frozenset({"model", "prior", "domain"})
    prepares_from: ClassVar[frozenset[str]] = needs
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train", "test"}), frozenset({"server"}), "white-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if prior is None or not len(prior):
            return "the decoder needs images of its own; hold some out: dataset.prior_size=1000"
        if prior.images.shape[1:] != domain.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (prior.images.shape[1:], domain.shape))
            return f"dataset@prior: its images are {theirs}, the target's {ours}; set prior.resize and prior.channels"
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The decoder's weights, and its ``loss`` ``[epochs]``: mean squared error of own images' pixels in [0, 1]."""
        prior = known.prior
        decoder = self.decoder(known, rng).to(bench.device)
        source = _Source(known.model, prior, known.domain, self.memory, rng.child("client's part"))
        every = torch.arange(len(prior), device=bench.device)
        start_at_mean(decoder, source(every[:_AT_ONCE]), prior.pixels())
        losses = torch.zeros(self.epochs, device=bench.device)
        sizes = [len(batch) for batch in every.split(self.batch_size)]

        def watch(done: int, total: int, loss: Tensor) -> None:
            epoch, step = divmod(done - 1, len(sizes))
            losses[epoch] += loss[0] * (sizes[step] / len(prior))
            if done % _SPEAKS == 0:
                bench.tick(done, total, loss=loss.item())

        images = Examples(lambda rows: (source(rows), prior.pixels(rows)), [every])
        schedule = LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, self.batch_size)
        start = alike(decoder.state_dict(), 1)
        fitted = fit(Training(decoder, start, None, mse_loss, images, schedule, [rng]), watch=watch)
        weights = {_WEIGHT + name: w for name, w in replica(fitted.weights, 0).items()}
        return {**weights, "loss": losses}

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        decoder = self.decoder(known, rng).to(bench.device)
        decoder.load_state_dict({k.removeprefix(_WEIGHT): w for k, w in prepared.items() if k.startswith(_WEIGHT)})
        with torch.no_grad():
            pixels = torch.cat([decoder(z) for z in seen.z.flatten(0, 1).split(_AT_ONCE)])
        pixels = pixels.view(*seen.z.shape[:2], *known.domain.shape)
        images = known.domain.inputs(pixels).expand(-1, seen.examples, -1, -1, -1)
        return Reconstruction(images=images, diverged=~images.isfinite().flatten(1).all(1))

    def decoder(self, known: Knowledge, rng: Rng) -> nn.Sequential:
        with seeded(rng.child("decoder")):
            return mirror(known.model, known.domain, self.kernel, self.width)


class _Source:
    """Activations of the adversary's own images: computed beforehand where they fit into ``memory`` GiB.

    Where the client's part is in train mode, an image's depend on what else is in the batch, and are made anew.
    """

    def __init__(self, part: nn.Module, prior: ImageSet, domain: Domain, memory: float, rng: Rng):
        self.part, self.prior, self.domain, self.rng = part, prior, domain, rng
        self.served = 0
        self.kept: Tensor | None = None
        one = self._fresh(torch.zeros(1, dtype=torch.int64, device=prior.labels.device))
        if not part.training and len(prior) * one.nbytes <= memory * 2**30:
            every = torch.arange(len(prior), device=prior.labels.device)
            self.kept = torch.empty(len(prior), *one.shape[1:], device=one.device)
            for batch in every.split(_AT_ONCE):
                self.kept[batch] = self._fresh(batch)

    def __call__(self, batch: Tensor) -> Tensor:
        return self._fresh(batch) if self.kept is None else self.kept[batch]

    def _fresh(self, batch: Tensor) -> Tensor:
        self.served += 1
        return forwarded(self.part, self.domain.inputs_of(self.prior, batch), self.rng.child(self.served))
