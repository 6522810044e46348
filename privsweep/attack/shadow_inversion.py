"""Shadow inversion: a server that knows its own networks alone imitates the client's head, and inverts that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.activation_inversion.decoder_training import Make, decode, train_decoders
from privsweep.activation_inversion.mirror_decoder import mirror, unmirrored
from privsweep.activation_inversion.own_activations import OwnActivations, Part
from privsweep.activation_inversion.residual_decoder import residual
from privsweep.activation_inversion.shadow import Choice, server_networks, shadow_network, subsets, train_shadows
from privsweep.attack.base import AttackBase
from privsweep.interface.component import BesideDefense, ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.guess import Answers, Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Optimizer
from privsweep.membership_inference.auxiliary_data import labelled_otherwise
from privsweep.model.ensemble import Selector
from privsweep.model.split_network import SplitNetwork
from privsweep.model.stochastic import noise_layers
from privsweep.training.stacked import Parallel

Count = Annotated[int, Field(ge=1)]
_SHARE = 10  # one in so many own images is held back from the shadows, to judge them by
_MOST = 6  # networks all of whose subsets are tried, at most


@component
class ShadowInversion(AttackBase):
    """Trains a shadow of the client's head around the server's networks, then a decoder of it, for what clients send.

    Query-free (Ensembler, sections 2.2 and 5.1; He et al., 2019, section 5.3). ``strategy`` says which of several
    server networks the shadow is built around:

    - ``each``: every network by itself (Ensembler's N=1). There is an answer for each, ``net_0`` and so on; the attack
      stands by the one whose shadow has the least loss on own images that were held back.
    - ``adaptive``: all of them, weighed by what is learnt along with the shadow.
    - ``selected``: those that the client uses, which the adversary was told (``fl_setting.selector_known``).
    - ``exchanged``: a control: those, but one of them for one that the client does not use (Ensembler, lemma 2).
    - ``subsets``: every choice of them, one shadow each, with the same rule; for few networks.

    Where the server holds one network, all are the same.

    With ``statistics`` the shadow also fits the running statistics of the server's batch normalisation, that many times
    their distance (ours: Ensembler's attacker does not, and often gets stuck).

    With ``shadows_defended`` the shadow's head ends with what the defence does to the client's features anew for every
    query, such as dropout, and the decoder learns from features that have passed it; noise that is drawn once is left
    to ``convolutions``. Without it, the attacker knows nothing of a defence, which then looks better than it is.
    """

    strategy: Literal["each", "adaptive", "selected", "exchanged", "subsets"]
    convolutions: Annotated[int, Field(ge=0)]
    statistics: Annotated[float, Field(ge=0)]
    shadows_defended: BesideDefense[bool]  # with what the defence draws for a query; False: as if there were none
    restarts: Count
    shadow_epochs: Count
    shadow_lr: Annotated[float, Field(gt=0)]
    decoder: Literal["residual", "mirror"]
    width: Count
    blocks: Count
    epochs: Count
    lr: Annotated[float, Field(gt=0)]
    batch_size: Count
    parallel: ResourceOnly[Parallel]
    memory: ResourceOnly[Annotated[float, Field(ge=0)]]  # GiB

    observes: ClassVar[type] = Activations
    reports: ClassVar[frozenset[str]] = frozenset({"shadow_loss", "shadow_accuracy", "decoder_mse"})

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"test"}), frozenset({"server"}), "white-box", adaptive=self.shadows_defended)

    @property
    def needs(self) -> frozenset[str]:
        told = {"selector"} if self.strategy in ("selected", "exchanged") else set()
        defense = {"defense"} if self.shadows_defended else set()
        return frozenset({"architecture", "domain", "prior", "server_part"} | told | defense)

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        return self.needs

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if not isinstance(domain, Domain):
            return f"attack=shadow_inversion: gives images, and the target's data are {domain}; take another attack"
        if prior is None or len(prior) < 2 * _SHARE:
            return (
                f"attack=shadow_inversion: needs {2 * _SHARE} images of its own or more; take "
                "fl_setting.training_data_known=true, or hold some out: dataset.prior_size=1000"
            )
        if prior.images.shape[1:] != domain.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (prior.images.shape[1:], domain.shape))
            return f"dataset@prior: its images are {theirs}, the target's {ours}; set prior.resize and prior.channels"
        if reason := labelled_otherwise(prior, domain):
            return reason
        if isinstance(model, SplitNetwork) and self.convolutions and len(model.sent) != 3:
            return (
                f"attack.convolutions={self.convolutions}: stand for noise on feature maps, and at this cut the client "
                "sends none; take attack.convolutions=0, or an earlier fl_setting.first_split"
            )
        if self.decoder == "mirror" and not self.convolutions and (reason := unmirrored(model, domain)):
            return reason
        held = len(server_networks(model.body)) if isinstance(model, SplitNetwork) else 1
        if self.strategy == "subsets" and held > _MOST:
            return (
                f"attack.strategy=subsets: {held} networks have {2**held - 1} subsets; take at most {_MOST} networks, "
                "or another strategy"
            )
        selectors = [layer for layer in model.modules() if isinstance(layer, Selector)]
        if self.strategy == "exchanged" and selectors and selectors[0].used == held:
            return (
                f"attack.strategy=exchanged: the client uses all of {held} networks, so that none can be exchanged; "
                "take fewer defense.ensembler.selected"
            )
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Decoders ``[R, ...]``, one a choice; of every choice ``shadow_loss`` and ``shadow_accuracy``, ``[R]``."""
        order = rng.child("held").permutation(len(known.prior))
        rest = order[torch.arange(len(order)) % _SHARE != 0]
        held, own = (known.prior.take(rows.to(bench.device)) for rows in (order[::_SHARE], rest))
        found: list[dict[str, Tensor]] = []
        for group in self._groups(known):
            schedule = LocalSchedule(Optimizer("adam", self.shadow_lr, 0.0), self.shadow_epochs, None, self.batch_size)
            shadows = train_shadows(
                known,
                group,
                self.convolutions,
                schedule,
                held,
                own,
                rng.child("shadows"),
                bench,
                self.parallel,
                self.statistics,
                self.restarts,
            )
            rngs = [rng.child(choice.name) for choice in group]
            heads = [Part(head, r.child("shadow")) for head, r in zip(shadows.heads, rngs, strict=True)]
            anew = any(noise_layers(head) for head in shadows.heads)  # a decoder would learn kept draws by heart
            images = OwnActivations(heads, known.prior, known.domain, 0.0 if anew else self.memory)
            schedule = LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, self.batch_size)
            trained = train_decoders(self._make(known), images, schedule, rngs, bench, parallel=self.parallel)
            found.append(
                {
                    **trained,
                    "shadow_loss": shadows.losses,
                    "shadow_accuracy": shadows.accuracies,
                    "activations": shadows.activations,
                }
            )
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction | Answers:
        choices = [choice for group in self._groups(known) for choice in group]
        answers: dict[str, Reconstruction] = {}
        victims = len(seen.z)
        for k, choice in enumerate(choices):
            pixels = decode(self._make(known), prepared, seen.z.flatten(0, 1), k)
            images = known.domain.inputs(pixels.view(*seen.z.shape[:2], *known.domain.shape))
            diagnostics = {
                "shadow_loss": prepared["shadow_loss"][k].expand(victims),
                "shadow_accuracy": prepared["shadow_accuracy"][k].expand(victims),
                "decoder_mse": prepared["loss"][k, -1].expand(victims),
            }
            diverged = ~images.isfinite().flatten(1).all(1)
            answers[choice.name] = Reconstruction(images=images, diverged=diverged, diagnostics=diagnostics)
        chosen = choices[int(prepared["shadow_loss"].nan_to_num(torch.inf).argmin())].name
        return answers[chosen] if len(answers) == 1 else Answers(answers, chosen)

    def _groups(self, known: Knowledge) -> Sequence[Sequence[Choice]]:
        """The choices, those around as many networks together."""
        count = len(server_networks(known.server_part))
        every = tuple(range(count))
        if self.strategy == "adaptive":
            return [[Choice(every, learnt=count > 1)]]
        if self.strategy in ("selected", "exchanged"):
            used = known.selector.nonzero().flatten().tolist()
            if self.strategy == "exchanged":
                used = sorted([*used[1:], next(i for i in every if i not in used)])
            return [[Choice(tuple(used), learnt=False)]]
        if self.strategy == "each":
            return [[Choice((i,), learnt=False) for i in every]]
        tried = subsets(count)
        return [[Choice(t, learnt=False) for t in tried if len(t) == size] for size in range(1, count + 1)]

    def _make(self, known: Knowledge) -> Make:
        if self.decoder == "residual":
            return partial(residual, domain=known.domain, width=self.width, blocks=self.blocks)

        def mirrored(features: tuple[int, ...]) -> nn.Sequential:
            with torch.device("meta"):
                shadow = shadow_network(known, Choice((0,), learnt=False), self.convolutions, Rng(0))
            return mirror(shadow.head, known.domain, None, None)

        return mirrored
