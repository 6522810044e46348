"""Updates and the question whether a record is behind one: who is asked about, and what is told of them."""

from typing import Any

import pytest
import torch
from tiny import Bench, capture, fedavg

from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update, UpdateTrials
from privsweep.interface.truth import Images, Membership
from privsweep.model.convnet import ConvNet

BATCH = capture(batch_size=4)


def setting_of(**changes: Any) -> Any:
    return fedavg(**{"rounds": 0, "capture": BATCH, "clients": 2, "victims": 3, **changes})


def exposed(data: Data, lenet: ConvNet, stack: Stack | None = None, **changes: Any) -> tuple[Exposure, Exposure]:
    setting, stack = setting_of(**changes), stack or Stack({})
    system = setting.train(data, lenet, stack, Rng(0), Bench())
    captured, _, trials, _ = setting.views()
    return tuple(view.expose(system, data, lenet, stack, Rng(0)) for view in (captured, trials))


def test_the_updates_are_those_that_are_inverted_and_members_are_behind_them(data: Data, lenet: ConvNet) -> None:
    plain, out = exposed(data, lenet)
    assert isinstance(out.seen, UpdateTrials)
    assert isinstance(plain.seen, Update)
    assert isinstance(plain.truth, Images)
    assert isinstance(out.truth, Membership)
    for name, delta in plain.seen.delta.items():
        assert torch.equal(out.seen.updates.delta[name], delta)
    asked = list(zip(out.seen.asked.tolist(), out.truth.member.tolist(), out.truth.index.tolist(), strict=True))
    behind = plain.truth.index.tolist()
    shard = set(setting_of().shards(data, Rng(0))[0].tolist())
    for n, (update, member, index) in enumerate(asked):
        assert (index in behind[update]) == member
        assert index in shard, "of the same client, so that nothing but the update tells them apart"
        assert torch.equal(out.known.candidates.images[n], data.train.images[index])
        assert out.known.candidates.labels[n] == data.train.labels[index]
    assert len(asked) == len({(update, index) for update, _, index in asked}) == 3 * 2 * 4
    assert sorted(update for update, member, _ in asked if member) == [0] * 4 + [1] * 4 + [2] * 4
    members = [member for update, member, _ in asked if update == 0]
    assert members != sorted(members)
    assert members != sorted(members, reverse=True)


def test_an_image_behind_another_update_is_no_fair_pair_of_a_member(data: Data, lenet: ConvNet) -> None:
    plain, out = exposed(data, lenet)
    assert isinstance(plain.truth, Images)
    assert isinstance(out.truth, Membership)
    assert out.truth.fair is not None
    elsewhere = torch.isin(out.truth.index, plain.truth.index) & ~out.truth.member
    assert elsewhere.any()
    assert torch.equal(out.truth.fair, ~elsewhere)
    _, chosen = exposed(data, lenet, victim_choice="every_class")
    assert isinstance(chosen.truth, Membership)
    assert chosen.truth.fair is not None
    assert not chosen.truth.fair.any(), "an image's class tells"


def test_as_many_as_are_wanted_are_asked_of_every_update(data: Data, lenet: ConvNet) -> None:
    _, out = exposed(data, lenet, candidates=12)
    assert isinstance(out.seen, UpdateTrials)
    assert isinstance(out.truth, Membership)
    assert out.seen.asked.bincount().tolist() == [4, 4, 4]
    assert out.seen.asked[out.truth.member].bincount().tolist() == [2, 2, 2]


def test_behind_a_sum_are_all_clients_images(data: Data, lenet: ConvNet) -> None:
    secure = Stack({"secure_aggregation": SecureAggregation(fraction_bits=24, bits=48, dropout=0.0, threshold=2)})
    plain, out = exposed(data, lenet, secure, victims=2)
    assert isinstance(plain.truth, Images)
    assert isinstance(out.truth, Membership)
    assert plain.truth.index.shape == (2, 8)
    assert set(out.truth.index[out.truth.member].tolist()) <= set(plain.truth.index.flatten().tolist())
    first = out.truth.index[: len(out.truth.index) // 2], out.truth.member[: len(out.truth.index) // 2]
    assert not set(first[0][~first[1]].tolist()) & set(plain.truth.index[0].tolist())


def test_the_adversary_knows_of_the_defence_and_no_labels_of_batches(data: Data, lenet: ConvNet) -> None:
    private = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=1.0, delta=1e-5, accountant="rdp", poisson=False)
    view = setting_of(labels_known=True).views()[2]
    stack = Stack({"dp_sgd": private}).bind(setting_of().schedule(data, Rng(0)))
    _, out = exposed(data, lenet, stack, labels_known=True)
    assert out.known.granted() == view.grants
    assert "labels" not in view.grants


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"candidates": 10}, r"candidates=10: as many are asked of each of 3 updates, .* take 6, or null"),
        ({"candidates": 60}, r"candidates=60: .* 8 at most; take 24, or null"),
        ({"victims": 1, "capture": capture(batch_size=30)}, r"batch_size=30: the client has no images but these"),
    ],
)
def test_what_does_not_go_round_is_refused(changes: dict[str, Any], words: str, data: Data, lenet: ConvNet) -> None:
    with pytest.raises(UserError, match=words):
        setting_of(**changes).views()[2].check(data, lenet, Stack({}), Rng(0))
