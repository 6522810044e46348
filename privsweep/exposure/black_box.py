"""The black box and the question: was this record in the training data?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax
from torch.utils.weak import WeakTensorKeyDictionary

from privsweep.exposure.federation import Federation, Round, check_kept, finished
from privsweep.interface.data import Architecture, Data, ImageSet, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Defended, Exposure, Knowledge, Predictions, System
from privsweep.interface.truth import Membership
from privsweep.model.stochastic import draw, forward

_BATCH = 1000  # records answered at once
_known = WeakTensorKeyDictionary()  # digests of images, as long as these are there


class BlackBox:
    """Answers model inputs ``[n, C, H, W]`` with probabilities ``[n, classes]``, through the defence.

    The n-th query draws its noise from a stream of its own.
    """

    def __init__(self, net: nn.Module, classes: int, defense: Defense, rng: Rng):
        self._net, self._classes, self._defense, self._rng = net.eval(), classes, defense, rng
        self._asked = 0

    def __call__(self, x: Tensor) -> Tensor:
        self._asked += 1
        own = self._rng.child("query", self._asked)
        with torch.no_grad():
            parts = [self._answer(part, own.child(n)) for n, part in enumerate(x.split(_BATCH))]
        return torch.cat(parts)

    def _answer(self, x: Tensor, own: Rng) -> Tensor:
        noise = draw(self._net, len(x), own.child("noise"), x.device)
        logits = forward(self._net, noise, x)[:, : self._classes]
        return self._defense.predictions(softmax(logits, 1), own)


@dataclass(frozen=True)
class BlackBoxView:
    """Answers of the released model on the candidates: as many members as others, in a random order.

    Members are drawn from what the released model was trained on: of the training split, the examples in the batches
    of clients that took part by then. The others are of the test split, without images that are equal to one of these;
    nothing in what the adversary gets tells them apart. Of a model that was not trained at all, the control, members
    are any training examples. The adversary is told how the released model was trained, not what followed. Zen, section
    4.1: test time, off-path, black box.

    Where the data have canaries, members and others are these, told apart by a draw.

    What is measured, where training images are held out: ``held_out_auc``, how often the model is surer of one of these
    than of one of the others, neither of which it was trained on. Where splits are alike that is 0.5; what is above it
    tells the splits apart, and no members (with its 95% interval under ``_low`` and ``_high``).
    """

    federation: Federation
    released: Round  # finished rounds of the model that answers
    candidates: int | None  # records whose membership is asked, half of them members; None: as many as there are

    observation: ClassVar[type[Predictions]] = Predictions
    reports: ClassVar[frozenset[str]] = frozenset({"held_out_auc"})
    time: ClassVar[Literal["train", "test"]] = "test"
    position: ClassVar[Literal["client", "server", "off-path"]] = "off-path"
    grants: ClassVar[frozenset[str]] = frozenset({"domain", "candidates", "architecture", "recipe", "defense"})
    calls: ClassVar[frozenset[str]] = frozenset({"model", "predictions", "sample"})

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the round's weights are not kept, or there are too few records."""
        image_shape(data.domain, "attack", "attack=none")
        check_kept(self.federation, "released", self.released)
        used = self._used(data, defense, rng)
        self._half(data, used, _unlike(_others(data), data.train, used))

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        candidates, truth = self._draw(data, self._used(data, defense, rng), rng.child("candidates"))
        net = self.federation.network(data, model, defense, rng)
        done = finished(self.federation, self.released)
        net.load_state_dict(dict(system.snapshots[done]))
        ask = BlackBox(net, data.domain.classes, defense, rng.child("black box"))
        seen = Predictions(probabilities=ask(data.domain.inputs_of(candidates)), ask=ask)
        recipe = replace(self.federation.recipe(data, rng, done), again=self.federation.again(data, model, done))
        known = Knowledge(
            domain=data.domain,
            candidates=candidates,
            architecture=model,
            recipe=recipe,
            defense=Defended(defense, self.federation.architecture(model)) if defense.acts_at() else None,
        )
        others = ~truth.member.to(candidates.labels.device)
        surer = _of_label(seen.probabilities[others], candidates.labels[others])
        own = BlackBox(net, data.domain.classes, defense, rng.child("held out"))
        measures = {} if data.canaries else _held_out(own, data, surer)
        return Exposure(seen, known, truth, measures, done=done)

    @property
    def version(self) -> int:
        """1 where members were once drawn from examples that may never have been used."""
        done = finished(self.federation, self.released)
        return int(done > 0 and not self.federation.uses_all(Defense(), done))

    def _used(self, data: Data, defense: Defense, rng: Rng) -> Tensor:
        """Positions of the training examples that can be members."""
        done = finished(self.federation, self.released)
        used = self.federation.used(data, defense, rng, done) if done else torch.arange(len(data.train))
        return used[torch.isin(used, data.canaries.inside)] if data.canaries else used

    def _draw(self, data: Data, used: Tensor, rng: Rng) -> tuple[ImageSet, Membership]:
        """The candidates, which of them are members, and where they stand in their split."""
        others, device = _others(data), data.train.labels.device
        strangers = _unlike(others, data.train, used)
        half = self._half(data, used, strangers)
        inside = used[rng.child("members").permutation(len(used))[:half]]
        outside = strangers[rng.child("others").permutation(len(strangers))[:half]]
        order = rng.child("order").permutation(2 * half)
        member = (torch.arange(2 * half) < half)[order]
        index = torch.cat([inside, outside])[order]
        drawn = data.train.take(inside.to(device)).with_more(others.take(outside.to(device)))
        return drawn.take(order.to(device)), Membership(member=member, index=index)

    def _half(self, data: Data, used: Tensor, strangers: Tensor) -> int:
        """Members among the candidates. Raises UserError where there are too few records."""
        most = min(len(used), len(strangers))
        if not len(used):
            raise UserError(
                f"fl_setting.released={self.released}: no image was trained on until then; take a later round"
            )
        if not most:
            raise UserError("dataset: every test image is one that the model was trained on; bring others")
        half = most if self.candidates is None else self.candidates // 2
        if half > most:
            if data.canaries:
                raise UserError(
                    f"fl_setting.candidates={self.candidates}: half of them are canaries that the released model was "
                    f"trained on, of which there are {len(used)}, and half are others, {len(strangers)}; take "
                    f"{2 * most} or fewer, null for all, or more dataset.canaries"
                )
            raise UserError(
                f"fl_setting.candidates={self.candidates}: half of them are images that the released model was trained "
                f"on and half test images that it was not, of which there are {len(used)} and {len(strangers)}; take "
                f"{2 * most} or fewer, or null for all"
            )
        return half


def _others(data: Data) -> ImageSet:
    """Among whom those are that are no members."""
    return data.canaries.outside if data.canaries else data.test


def _held_out(ask: BlackBox, data: Data, others: Tensor) -> dict[str, float | None]:
    """How held-out training images compare with ``others``, the probabilities of test images' labels."""
    # Here, for the import takes a second, which planning need not wait.
    from privsweep.metric.membership import area_with_interval

    if data.prior is None or not (count := len(data.prior) - data.prior_of_test):
        return {}
    records = data.prior.take(torch.arange(count, device=others.device))
    held = _of_label(ask(data.domain.inputs_of(records)), records.labels)
    return area_with_interval("held_out_auc", held.cpu().numpy(), others.cpu().numpy())


def _unlike(images: ImageSet, others: ImageSet, used: Tensor) -> Tensor:
    """Positions of those of ``images`` that are equal to none of ``others`` at the positions ``used``, ascending."""
    theirs = _digests(others.images)
    held = {theirs[n] for n in used.tolist()}
    return torch.tensor(
        [n for n, digest in enumerate(_digests(images.images)) if digest not in held], dtype=torch.int64
    )


def _digests(images: Tensor) -> list[bytes]:
    """Of every image; reckoned once, for all cells of a table that are checked with the same data."""
    if images not in _known:
        _known[images] = [blake2b(image.tobytes(), digest_size=16).digest() for image in images.cpu().numpy()]
    found: list[bytes] = _known[images]
    return found


def _of_label(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Of every record ``[n]``; zero where a diverged model tells none."""
    return probabilities.gather(1, labels[:, None])[:, 0].nan_to_num(0.0)
