"""Regularised maximum likelihood inversion: images whose activations are those that were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, vmap

from privsweep.activation_inversion.perturbed_part import lost_in, variants
from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.minimisation.adam import BatchedAdam, recorded_iterations
from privsweep.minimisation.minimum import Minimum, Progress
from privsweep.minimisation.total_variation import add_total_variation

_AT_ONCE = 256  # images that are searched for together
_ZEROS = 0.1  # what a zero behind dropout counts for, as a part of the weight of the total variation
_BOUND = 0.1  # the most that such a zero costs, as a part of what a feature's square is on average

Count = Annotated[int, Field(ge=1)]


@component
class LikelihoodInversion(AttackBase):
    """Changes pixels until the client's part makes of them what was seen: an upper bound of what activations tell.

    He et al., "Model inversion attacks against collaborative inference" (2019), the white-box attack. It minimises
    ``|f(x) - z|^2 / |z|^2 + w TV(x)`` with Adam, for all victims at once, each on its own: the likelihood of ``z``
    under Gaussian noise, up to a factor, and the mean absolute steps down and right between pixels. ``lrs``,
    ``tv_weights`` and the bounds are on the scale of pixels, [0, 1]. The answer is the point of least objective.

    Every ``w`` of ``tv_weights``, with its step of ``lrs``, has ``iterations``, which start where those before ended.
    One weight is He et al.'s attack. Falling ones find an image that is about right, where pooling and ReLU leave many,
    and then its details.

    What stochastic layers and the defence drew is not known: the client's part is taken without noise. Where that draws
    from a few tensors, as Shredder does, each is tried, and the least objective counts. A zero behind dropout says
    little, for the feature was dropped or is zero: it counts for a tenth of ``w``, and however large the feature would
    be, for a bounded amount.

    In train mode the images of a message are normalised together, those of others apart. Where only the mean of a
    message is seen, the mean over its images is matched; they differ only if they start from different ones, at random.
    """

    iterations: Count
    tv_weights: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    lrs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    decay: bool
    init: Literal["grey", "black", "mean", "uniform"]
    clamp_pixels: bool
    restarts: Count

    observes: ClassVar[type] = Activations
    version: ClassVar[int] = 1
    reports: ClassVar[frozenset[str]] = frozenset({"objective", "evaluations"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train", "test"}), frozenset({"server"}), "white-box")

    def __post_init__(self) -> None:
        """Raises UserError for weights without steps, and for restarts that would all start from the same image."""
        if len(self.lrs) != len(self.tv_weights):
            raise UserError(
                f"attack.lrs={list(self.lrs)}: every weight has a step of its own, and "
                f"attack.tv_weights={list(self.tv_weights)}; give as many of one as of the other"
            )
        if self.restarts > 1 and self.init != "uniform":
            raise UserError(
                f"attack.restarts={self.restarts}: all would start from the same image; take attack.init=uniform, or "
                "restarts=1"
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "domain"} | ({"prior"} if self.init == "mean" else set()))

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        image_shape(domain, "attack", "attack=shadow_transcription")
        return None

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        parts = variants(known.model.to(bench.device))
        size = max(1, _AT_ONCE // (seen.examples * self.restarts))
        whole = len(seen.z)
        found: list[Minimum] = []
        for first in range(0, whole, size):
            z = seen.z[first : first + size].to(bench.device)
            rngs = [rng.child("victim", first + v, "restart", r) for v in range(len(z)) for r in range(self.restarts)]
            start = torch.stack([self._start(seen.examples, known, own) for own in rngs]).to(bench.device).flatten(1)
            goal = z.repeat_interleave(self.restarts, 0)

            def progress(done: float, value: Tensor, first: int = first, many: int = len(z)) -> None:
                steps = self.steps * len(parts) * first + int(done) * many
                bench.tick(steps, self.steps * len(parts) * whole, objective=value.nanmedian().item())

            ends: list[Minimum] = []
            for n, part in enumerate(parts):

                def later(done: float, value: Tensor, before: int = n * self.steps) -> None:
                    progress(before + done, value)

                objective = _Objective(part, known.domain, goal, lost_in(part, goal), seen.examples, 0.0)
                ends.append(self._minimise(objective, start, later))
            found.append(self._best(ends))
        x, value, diverged, evaluations, curve = (
            torch.cat([getattr(end, name) for end in found])
            for name in ("x", "value", "diverged", "evaluations", "curve")
        )
        shown = torch.tensor(recorded_iterations(self.iterations))
        return Reconstruction(
            images=known.domain.inputs(x.view(whole, seen.examples, *known.domain.shape)),
            diverged=diverged,
            diagnostics={"objective": value, "evaluations": evaluations},
            curve={
                "iteration": torch.cat([shown + n * self.iterations for n in range(len(self.tv_weights))]),
                "objective": curve,
            },
        )

    @property
    def steps(self) -> int:
        """Iterations with all weights."""
        return self.iterations * len(self.tv_weights)

    def _minimise(self, objective: _Objective, start: Tensor, progress: Progress) -> Minimum:
        """From ``start`` ``[V, D]``, weight after weight."""
        edge = start[0]
        box = (torch.zeros_like(edge), torch.ones_like(edge)) if self.clamp_pixels else None
        ends: list[Minimum] = []
        for n, (weight, lr) in enumerate(zip(self.tv_weights, self.lrs, strict=True)):
            before = n * self.iterations

            def later(done: float, value: Tensor, before: int = before) -> None:
                progress(before + done, value)

            adam = BatchedAdam(lr, self.decay, signed_coordinates=0, bounds=box, keep="best", patience=0, filtered=None)
            end = adam.minimise(replace(objective, tv_weight=weight), start, self.iterations, later)
            ends.append(end)
            start = end.x
        diverged = torch.stack([end.diverged for end in ends]).any(0)
        evaluations = torch.stack([end.evaluations for end in ends]).sum(0)
        curve = torch.cat([end.curve for end in ends], 1)
        return Minimum(ends[-1].x, ends[-1].value, diverged, evaluations, curve)

    def _start(self, images: int, known: Knowledge, rng: Rng) -> Tensor:
        """Pixels ``[N, C, H, W]``."""
        shape = known.domain.shape
        if self.init == "uniform":
            return torch.rand(images, *shape, generator=rng.generator())
        if self.init == "mean":
            return known.prior.pixels().mean(0).expand(images, -1, -1, -1)
        return torch.full((images, *shape), 0.5 if self.init == "grey" else 0.0)

    def _best(self, ends: Sequence[Minimum]) -> Minimum:
        """Of every victim's restarts in all ``ends`` the one of least objective; a diverged one only if all have."""
        tried = self.restarts * len(ends)

        def beside(name: str) -> Tensor:
            """One victim's after the other's."""
            each = [getattr(end, name).unflatten(0, (-1, self.restarts)) for end in ends]
            return torch.cat(each, 1).flatten(0, 1)

        diverged, value = beside("diverged"), beside("value")
        least = torch.where(diverged, torch.inf, value).view(-1, tried)
        rows = torch.arange(len(least), device=least.device) * tried + least.argmin(1)
        spent = beside("evaluations").view(-1, tried).sum(1)
        return Minimum(beside("x")[rows], value[rows], diverged[rows], spent, beside("curve")[rows])


@dataclass(frozen=True)
class _Objective:
    """Of ``V`` messages; a point is the pixels of one's ``N`` images."""

    part: nn.Module
    domain: Domain
    z: Tensor  # [V, N, ...]; [V, 1, ...] where the mean is matched
    lost: Tensor | None  # of the same shape, which features of it may be zero because they were dropped
    examples: int  # N
    tv_weight: float

    def take(self, rows: Tensor) -> _Objective:
        return replace(self, z=self.z[rows], lost=None if self.lost is None else self.lost[rows])

    def draw(self) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, x: Tensor, *drawn: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.view(-1, self.examples, *self.domain.shape).detach().requires_grad_()
        sent = self._sent(self.domain.inputs(pixels))
        if self.z.shape[1] == 1:
            sent = sent.mean(1, keepdim=True)
        least = torch.finfo(self.z.dtype).tiny
        squares = (sent - self.z).flatten(1).square()
        if self.lost is not None:
            squares = self._forgiven(squares)
        off = squares.sum(1) / self.z.flatten(1).square().sum(1).clamp_min(least)
        [slope] = torch.autograd.grad(off.sum(), pixels)
        value = off.detach()
        if self.tv_weight:
            value = value + add_total_variation(pixels.detach(), self.tv_weight, slope)
        return value, slope.flatten(1)

    def _forgiven(self, squares: Tensor) -> Tensor:
        """Squares ``[V, F]`` of the differences, with those of what may have been dropped by their little weight."""
        assert self.lost is not None
        lost, z = self.lost.flatten(1), self.z.flatten(1)
        usual = z.square().sum(1, keepdim=True) / (~lost).sum(1, keepdim=True).clamp_min(1)
        most = (_BOUND * usual).clamp_min(torch.finfo(z.dtype).tiny)
        return torch.where(lost, _ZEROS * self.tv_weight * most * -torch.expm1(-squares / most), squares)

    def _sent(self, inputs: Tensor) -> Tensor:
        """``[V, N, ...]``; in train mode each message is normalised on its own, and no statistics are kept."""
        if not self.part.training:
            return self.part(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        buffers = {name: b.expand(len(inputs), *b.shape).clone() for name, b in self.part.named_buffers()}
        return vmap(lambda own, message: functional_call(self.part, own, (message,)))(buffers, inputs)
