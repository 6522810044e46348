import torch
from tiny import Bench, fedavg

from privsweep.attack.blind import Blind
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.metric.score import score
from privsweep.model.convnet import ConvNet


def test_blind_ignores_the_update_and_scores_at_chance(data: Data, lenet: ConvNet) -> None:
    setting = fedavg(rounds=0, victims=20)
    system = setting.train(data, lenet, Stack({}), Rng(0), Bench())
    out = setting.views()[0].expose(system, data, lenet, Stack({}), Rng(0))
    attack = Blind(guess="noise")
    guess = attack(out.seen, out.known, None, Bench(), Rng(0))
    assert guess.images.shape == out.truth.pixels.shape
    metrics, *_ = score(guess, out.truth, data.domain, "zen", 0.6)
    assert metrics["asr"] == 0
    assert metrics["label_accuracy"] < 0.5  # type: ignore[operator]
    grey, *_ = score(
        Blind(guess="grey")(out.seen, out.known, None, Bench(), Rng(0)), out.truth, data.domain, "zen", 0.6
    )
    assert grey["mse"] < metrics["mse"]  # type: ignore[operator]
    assert torch.equal(guess.images, attack(out.seen, out.known, None, Bench(), Rng(0)).images)
