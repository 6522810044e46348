"""Decoders trained together: each on what its own source makes of the images, whoever is trained beside it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny import Bench, digits_of
from torch import Tensor, nn

from privsweep.activation_inversion.decoder_training import decode, train_decoders
from privsweep.activation_inversion.own_activations import OwnActivations, Part
from privsweep.activation_inversion.residual_decoder import residual
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.training import LocalSchedule, Optimizer
from privsweep.model.dropout import Dropout

SCHEDULE = LocalSchedule(Optimizer("adam", 3e-3, 0.0), epochs=4, steps=None, batch_size=32)
RNGS = [Rng(k) for k in range(3)]


@pytest.fixture(scope="module")
def data() -> Data:
    return digits_of(train_size=20, test_size=20, prior_size=100, normalize=True).load(Rng(0))


def heads() -> list[nn.Module]:
    with seeded(Rng(7)):
        return [nn.Sequential(nn.Conv2d(1, 5, 3, 2, 1), nn.ReLU()).eval() for _ in RNGS]


def trained(data: Data, ks: list[int], memory: float = 1.0, parallel: str = "stacked") -> dict[str, Tensor]:
    assert data.prior is not None
    chosen = [heads()[k] for k in ks]
    own = OwnActivations([Part(head, Rng(0)) for head in chosen], data.prior, data.domain, memory)
    make = partial(residual, domain=data.domain, width=4, blocks=1)
    return train_decoders(make, own, SCHEDULE, [RNGS[k] for k in ks], Bench(), parallel=parallel)  # type: ignore[arg-type]


@pytest.mark.parametrize("parallel", ["stacked", "sequential"])
@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_a_decoder_is_the_same_alone_and_among_others(data: Data, parallel: str, memory: float) -> None:
    together = trained(data, [0, 1, 2], memory, parallel)
    assert together["loss"].shape == (3, SCHEDULE.epochs)
    for k in range(3):
        alone = trained(data, [k])
        for name, w in together.items():
            assert torch.allclose(w[k], alone[name][0], atol=2e-3), name


def test_how_features_are_standardised_is_measured_once(data: Data) -> None:
    assert data.prior is not None
    prepared = trained(data, [0, 1])
    for k in range(2):
        own = OwnActivations([Part(heads()[k], Rng(0))], data.prior, data.domain, 1.0)
        assert torch.allclose(prepared["weight:0.mean"][k].flatten(), own(own.of(0)).mean((0, 2, 3)), atol=1e-6)


def test_losses_fall_and_each_decodes_what_it_was_trained_on(data: Data) -> None:
    prepared = trained(data, [0, 1])
    assert (prepared["loss"][:, -1] < prepared["loss"][:, 0]).all()
    pixels = data.test.pixels()
    make = partial(residual, domain=data.domain, width=4, blocks=1)
    errors = torch.empty(2, 2)
    for source in range(2):
        with torch.no_grad():
            z = heads()[source](data.domain.inputs(pixels))
        for k in range(2):
            errors[source, k] = (decode(make, prepared, z, k) - pixels).square().mean()
    assert errors[0, 0] < errors[0, 1]
    assert errors[1, 1] < errors[1, 0]


def test_noise_of_a_source_is_drawn_anew_where_activations_are_not_kept(data: Data) -> None:
    assert data.prior is not None
    noisy = nn.Sequential(nn.Flatten(), Dropout(64, 0.5)).train()
    rows = torch.arange(5)
    kept, fresh = (OwnActivations([Part(noisy, Rng(0))], data.prior, data.domain, memory) for memory in (1.0, 0.0))
    assert torch.equal(kept(rows), kept(rows))
    assert not torch.equal(fresh(rows), fresh(rows))
