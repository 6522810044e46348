"""Whole attacks on random images, all victims at once or one after the other by the same code.

What the loops of ``gradient_matching`` leave out: options of IGA that take more than an image's gradient, and attacks
that read images off at once. Checked first: both ways find the same, but where an optimiser amplifies rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.contest import Case, Contest, DisagreementError, Setup
from benchmarks.workplace import random_data, spec_of, trained
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Update
from privsweep.run.run import exposure_for
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store

_NEAR = 1e-3  # of a pixel, on the scale of inputs
_UNTRAINED = ("fl_setting=fedavg", "fl_setting.rounds=0", "fl_setting.clients=2")


@dataclass(frozen=True)
class Asked:
    """An attack on a network."""

    about: str
    overrides: tuple[str, ...]
    victims: int  # at once, on a CPU; four times as many on a GPU
    iterations: int = 0  # of one that iterates
    own_images: int = 0  # of the adversary's


def attack(asked: Asked, setup: Setup) -> Contest:
    victims = max(setup.victims or (setup.sized(2, asked.victims, 4 * asked.victims),))
    steps = setup.sized(1, asked.iterations, asked.iterations) if asked.iterations else 0
    given = [*_UNTRAINED, *asked.overrides, f"fl_setting.victims={victims}", f"device={setup.device.type}"]
    given += [f"attack.iterations={steps}"] if steps else []
    spec, data, rng = spec_of(*given), random_data(2048, 256, setup.device), Rng(0)
    prior = random_data(asked.own_images, 1, setup.device).train if asked.own_images else None
    bench = Workbench(setup.device, Store(setup.folder), spec.signature)
    assert spec.view is not None
    defense = spec.defense.bind(spec.fl_setting.schedule(data, rng))
    out = exposure_for(spec, spec.view, trained(spec, data, setup), data, prior, defense, rng)
    assert isinstance(out.seen, Update)
    seen, known, drawn = out.seen, out.known, rng.child("attack")
    prepared = spec.attack.prepare(known, bench, drawn) if spec.attack.prepares_from else {}

    def some(part: slice) -> Tensor:
        own = known.having(labels=known.labels[part]) if "labels" in known.granted() else known
        with bench.phase("attacking"):
            found = spec.attack(seen.take(part), own, prepared, bench, drawn)
        assert isinstance(found, Reconstruction)
        return found.images

    def alone() -> Tensor:
        return torch.cat([some(slice(v, v + 1)) for v in range(victims)])

    def together() -> Tensor:
        return some(slice(None))

    if not steps and (alone() - together()).abs().max() > _NEAR:
        raise DisagreementError("images differ from those that are found one by one")
    each = max(1, steps)
    return Contest(lambda: len(alone()) * each, {f"{victims} victims": lambda: len(together()) * each})


_LENET = ("attack=iga", "model=lenet_dlg", "fl_setting.labels_known=true")
_STEPS = ("attack.unrolled=true", "fl_setting.capture.what=difference", "fl_setting.local_epochs=5")
_LOSS = ("defense=[precode]", "attack.loss=victim", "attack.noise=optimised")
_PRIOR = ("attack.distance=squared", "attack.prior_weight=1e-4", "dataset.prior_size=1000")
ASKED = {
    "iga_statistics": Asked(
        "IGA beside batch statistics, LeNet", (*_LENET, "model.norm=batch", "attack.statistics_weight=1"), 16, 10
    ),
    "iga_prior": Asked("IGA beside a Gaussian of images, LeNet", (*_LENET, *_PRIOR), 16, 10, 1000),
    "iga_unrolled": Asked("IGA through five local steps, LeNet", (*_LENET, *_STEPS), 8, 10),
    "iga_client_loss": Asked("IGA of the client's own loss, LeNet behind PRECODE", (*_LENET, *_LOSS), 16, 10),
    "analytic": Asked("analytic, the deep MLP", ("attack=analytic", "model=dmlp"), 16),
    "analytic_batch": Asked(
        "analytic, eight images behind the shallow MLP",
        ("attack=analytic", "model=smlp", "fl_setting.capture.batch_size=8"), 4,
    ),
    "april": Asked("april, a vision transformer", ("attack=april",), 16),
    "imprint": Asked("imprint, 32 images", ("attack=imprint", "fl_setting.capture.batch_size=32"), 4, own_images=400),
}  # fmt: skip
CASES = {
    name: Case(
        f"{asked.about}, or one victim after the other",
        "a victim's iteration" if asked.iterations else "a victim",
        partial(attack, asked),
    )
    for name, asked in ASKED.items()
}
