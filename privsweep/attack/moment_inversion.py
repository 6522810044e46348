"""Moment inversion: a server that keeps what it is sent fits a head to the moments of that, and inverts the head."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.activation_inversion.decoder_training import Make, decode, train_decoders
from privsweep.activation_inversion.moment_fit import fitted_head
from privsweep.activation_inversion.own_activations import OwnActivations, Part
from privsweep.activation_inversion.residual_decoder import residual
from privsweep.attack.base import AttackBase
from privsweep.interface.component import BesideDefense, ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Optimizer
from privsweep.model.split_network import SplitNetwork
from privsweep.model.stochastic import noise_layers
from privsweep.training.stacked import Parallel

Count = Annotated[int, Field(ge=1)]
_SHARE = 10  # one in so many own images is held back from the heads, to judge them by


@component
class MomentInversion(AttackBase):
    """Fits a head like the client's to what was received for other queries, then trains a decoder of it (ours).

    Against collaborative inference, query-free: the server asks the client nothing, and knows no image behind what it
    has received (``fl_setting.queries_kept``). It needs none of its own networks, so that no defence helps which has
    the client's head fit those in many ways, as Ensembler's second stage does. It makes use of what any head must keep
    that images can be told from: how bright they are in which place, and how neighbouring pixels go together. See
    ``privsweep.activation_inversion.moments``; of ``restarts`` heads that with the least distance is taken.

    ``shadows_defended`` is that of shadow_inversion: what the defence draws for a query perturbs the fitted head, too.

    Diagnostic, the same for every victim: ``moment_distance``, on own images that were held back.
    """

    shadows_defended: BesideDefense[bool]  # with what the defence draws for a query; False: as if there were none
    restarts: Count
    shadow_epochs: Count
    shadow_lr: Annotated[float, Field(gt=0)]
    width: Count
    blocks: Count
    epochs: Count
    lr: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=2)]
    parallel: ResourceOnly[Parallel]
    memory: ResourceOnly[Annotated[float, Field(ge=0)]]  # GiB

    observes: ClassVar[type] = Activations
    reports: ClassVar[frozenset[str]] = frozenset({"moment_distance", "decoder_mse"})

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"test"}), frozenset({"server"}), "black-box", adaptive=self.shadows_defended)

    @property
    def needs(self) -> frozenset[str]:
        defense = {"defense"} if self.shadows_defended else set()
        return frozenset({"architecture", "domain", "prior", "received"} | defense)

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        return self.needs

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        image_shape(domain, "attack", "attack=shadow_transcription")
        if prior is None or len(prior) < 2 * _SHARE:
            return (
                f"attack=moment_inversion: needs {2 * _SHARE} images of its own or more; take "
                "fl_setting.training_data_known=true, or hold some out: dataset.prior_size=1000"
            )
        if prior.images.shape[1:] != domain.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (prior.images.shape[1:], domain.shape))
            return f"dataset@prior: its images are {theirs}, the target's {ours}; set prior.resize and prior.channels"
        if isinstance(model, SplitNetwork) and not any(p.dim() > 1 for p in model.head.parameters()):
            return "attack=moment_inversion: the client's head has no weights; take another fl_setting.first_split"
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The decoder ``[1, ...]``, and ``moment_distance``."""
        order = rng.child("held").permutation(len(known.prior))
        rest = order[torch.arange(len(order)) % _SHARE != 0]
        held, own = (known.prior.take(rows.to(bench.device)) for rows in (order[::_SHARE], rest))
        optimizer = Optimizer("adam", self.shadow_lr, 0.0, decay="cosine")
        schedule = LocalSchedule(optimizer, self.shadow_epochs, None, self.batch_size)
        fitted = fitted_head(known, schedule, held, own, self.restarts, rng.child("head"), bench, self.parallel)
        memory = 0.0 if noise_layers(fitted.head) else self.memory  # a decoder would learn kept draws by heart
        images = OwnActivations([Part(fitted.head, rng.child("shadow"))], known.prior, known.domain, memory)
        schedule = LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, self.batch_size)
        trained = train_decoders(self._make(known), images, schedule, [rng.child("decoder")], bench)
        return {**trained, "moment_distance": fitted.distance}

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        pixels: Tensor = decode(self._make(known), prepared, seen.z.flatten(0, 1))
        images = known.domain.inputs(pixels.view(*seen.z.shape[:2], *known.domain.shape))
        diagnostics = {
            "moment_distance": prepared["moment_distance"].expand(len(images)),
            "decoder_mse": prepared["loss"][0, -1].expand(len(images)),
        }
        return Reconstruction(
            images=images, diverged=~images.isfinite().flatten(1).all(1), diagnostics=diagnostics
        )  # fmt: skip

    def _make(self, known: Knowledge) -> Make:
        return partial(residual, domain=known.domain, width=self.width, blocks=self.blocks)
