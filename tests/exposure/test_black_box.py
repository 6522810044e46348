"""The black box: what it gives away, and what it does not."""

import dataclasses

import pytest
import torch
from tiny import Bench, fedavg

from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Membership, Predictions
from privsweep.model.convnet import ConvNet
from privsweep.store.fingerprint import checksum_of


def exposed(data: Data, model: ConvNet, defense: Defense | None = None, **changes: object):  # type: ignore[no-untyped-def]
    setting = fedavg(**{"rounds": 1, "clients": 2, **changes})
    stack = Stack({"own": defense} if defense else {})
    system = setting.train(data, model, stack, Rng(0), Bench())
    return setting.views()[1].expose(system, data, model, stack, Rng(0))


def test_half_of_the_candidates_are_members_in_no_order_that_tells(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, candidates=20)
    assert isinstance(out.truth, Membership)
    assert int(out.truth.member.sum()) == 10
    assert out.truth.member.tolist() != sorted(out.truth.member.tolist(), reverse=True)
    for n, (inside, index) in enumerate(zip(out.truth.member.tolist(), out.truth.index.tolist(), strict=True)):
        split = data.train if inside else data.test
        assert torch.equal(out.known.candidates.images[n], split.images[index])
        assert out.known.candidates.labels[n] == split.labels[index]


def test_answers_are_probabilities_and_the_box_can_be_asked_again(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, candidates=20)
    assert isinstance(out.seen, Predictions)
    assert torch.allclose(out.seen.probabilities.sum(1), torch.ones(20))
    again = out.seen.ask(data.domain.inputs(out.known.candidates.pixels()))
    assert torch.equal(again, out.seen.probabilities)


def test_a_defence_of_predictions_stands_before_every_answer(data: Data, lenet: ConvNet) -> None:
    class Rounded(Defense):
        def predictions(self, probabilities: torch.Tensor, rng: Rng) -> torch.Tensor:
            return probabilities.round()

    out = exposed(data, lenet, Rounded(), candidates=20)
    assert isinstance(out.seen, Predictions)
    assert set(out.seen.probabilities.unique().tolist()) <= {0.0, 1.0}


def test_too_many_candidates_are_refused(data: Data, lenet: ConvNet) -> None:
    with pytest.raises(UserError, match=r"fl_setting\.candidates=9998: .* take \d+ or fewer"):
        exposed(data, lenet, candidates=9998)


def test_equal_content_has_equal_checksums(lenet: ConvNet) -> None:
    a, b = torch.arange(6.0), torch.arange(6.0)
    assert checksum_of(a) == checksum_of(b) != checksum_of(a.view(2, 3))
    assert checksum_of(lenet) != checksum_of(dataclasses.replace(lenet, width=7))
