import pytest
from tiny import Bench, capture, fedavg
from torch import nn

from privsweep.attack.analytic import Analytic
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, Domain
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure
from privsweep.metric.score import score
from privsweep.model.mlp import MLP

ATTACK = Analytic(agreement=1e-3)
DOMAIN = Domain(shape=(1, 8, 8), classes=10, mean=(0.0,), std=(1.0,))


def mlp(width: int = 128) -> MLP:
    return MLP(width=width, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)


def exposed(data: Data, **changes: object) -> Exposure:
    setting = fedavg(**{"rounds": 0, "victims": 4, **changes})
    system = setting.train(data, mlp(), Stack({}), Rng(0), Bench())
    return setting.views()[0].expose(system, data, mlp(), Stack({}), Rng(0))


@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_a_single_image_is_recovered_exactly(data: Data, what: str) -> None:
    out = exposed(data, capture=capture(what=what), optimizer="sgd", lr=0.1, local_epochs=1)
    guess = ATTACK(out.seen, out.known, {}, Bench(), Rng(0))
    metrics, *_ = score(guess, out.truth, data.domain, "zen", 0.6)
    assert metrics["ssim"] > 0.999  # type: ignore[operator]
    assert metrics["psnr"] > 60  # type: ignore[operator]
    assert metrics["label_accuracy"] == 1


def test_separable_batches_are_recovered_in_some_order(data: Data) -> None:
    out = exposed(data, capture=capture(batch_size=3))
    metrics, *_ = score(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)), out.truth, data.domain, "zen", 0.6)
    assert metrics["recovered"] > 0.6  # type: ignore[operator]
    assert metrics["label_accuracy"] > 0.6  # type: ignore[operator]


def test_a_convolution_first_is_said_to_be_out_of_reach() -> None:
    reason = ATTACK.fits(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), DOMAIN, None)
    assert reason is not None
    assert "model=smlp" in reason
    assert ATTACK.fits(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), DOMAIN, None) is None
