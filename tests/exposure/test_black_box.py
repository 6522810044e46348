"""The black box: what it gives away, and what it does not."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError
from tiny import Bench, digits_of, fedavg

from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, ImageSet
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Predictions
from privsweep.interface.truth import Membership
from privsweep.metric.membership import score_membership
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.store.fingerprint import checksum_of


def exposed(data: Data, model: ConvNet | MLP, defense: Defense | None = None, **changes: object):  # type: ignore[no-untyped-def]
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


def test_members_are_records_that_the_released_model_was_trained_on(data: Data, lenet: ConvNet) -> None:
    """One client of ten took part: 6 of the 60 training images are members, and with any 6 test images candidates."""
    few = {"clients": 10, "participation": 0.1}
    out = exposed(data, lenet, **few)
    setting = fedavg(rounds=1, **few)
    [client] = setting.sampled(0, Rng(0))
    assert isinstance(out.truth, Membership)
    own = setting.shards(data, Rng(0))[client]
    assert out.truth.index[out.truth.member].sort().values.tolist() == own.tolist()
    assert int((~out.truth.member).sum()) == len(own) == 6
    with pytest.raises(UserError, match=r"fl_setting\.candidates=20: .*there are 6 and 20; take 12 or fewer"):
        fedavg(rounds=1, candidates=20, **few).views()[1].check(data, lenet, Stack({}), Rng(0))


def test_members_of_an_earlier_model_are_those_that_it_had_seen(data: Data, lenet: ConvNet) -> None:
    later = {"clients": 10, "participation": 0.1, "rounds": 3, "checkpoints": [1]}
    found = []
    for released in (1, "last", 0):
        out = exposed(data, lenet, **later, released=released)
        assert isinstance(out.truth, Membership)
        found.append(set(out.truth.index[out.truth.member].tolist()))
    early, late, control = found
    assert len(early) == 6
    assert early < late
    assert len(control) == 20  # of a model that was not trained, any


def test_who_is_asked_about_stays_where_everything_was_used(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, candidates=20)
    assert isinstance(out.truth, Membership)
    drawn = Rng(0).child("candidates", "members").permutation(60)[:10]
    assert set(out.truth.index[out.truth.member].tolist()) == set(drawn.tolist())


def test_the_recipe_is_that_of_the_released_model(data: Data, lenet: ConvNet) -> None:
    """Not of what followed, and of the clients that took part: the adversary trains shadows as the target was."""

    def epochs(released: int | str, **changes: object) -> float | None:
        own = {"rounds": 10, "local_epochs": 3, "checkpoints": [0, 4], "released": released, **changes}
        return exposed(data, lenet, **own).known.recipe.epochs

    assert epochs("last") == 30
    assert epochs(4) == 12
    assert epochs(0) == 0
    assert epochs(4, clients=10, participation=0.2) == pytest.approx(2.4)
    # five steps of eight, of clients with 30 examples each
    assert epochs("last", local_steps=5) == pytest.approx(10 * 5 * 8 / 30)


def test_a_test_image_that_was_trained_on_is_no_other(data: Data, lenet: ConvNet) -> None:
    """It is a member, whatever split it is found in."""
    copies = data.train.images[::4][: len(data.test) - 2]
    images = torch.cat([data.test.images[:1], copies, data.test.images[-1:]])
    images = torch.cat([images, data.test.images[1 : 1 + len(data.test) - len(images)]])
    twice = dataclasses.replace(data, test=ImageSet(images, data.test.labels))
    out = exposed(twice, lenet)
    assert isinstance(out.truth, Membership)
    own = {n for n in range(len(images)) if not 1 <= n <= len(copies)}
    assert set(out.truth.index[~out.truth.member].tolist()) == own
    assert int(out.truth.member.sum()) == len(own)
    few = exposed(twice, lenet, clients=10, participation=0.1)  # most copies are of images that were not used
    assert isinstance(few.truth, Membership)
    assert len(few.truth.member) == 12
    same = dataclasses.replace(data, test=data.train)
    with pytest.raises(UserError, match="dataset: every test image is one that the model was trained on"):
        fedavg(rounds=1).views()[1].check(same, lenet, Stack({}), Rng(0))


def test_a_model_that_has_used_nothing_yet_has_no_members(data: Data, lenet: ConvNet) -> None:
    class Nobody(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> torch.Tensor:
            return torch.empty(0, dtype=torch.int64)

    with pytest.raises(UserError, match=r"fl_setting\.released=last: no image .* take a later round"):
        fedavg().views()[1].check(data, lenet, Stack({"own": Nobody()}), Rng(0))


def test_too_many_candidates_are_refused(data: Data, lenet: ConvNet) -> None:
    with pytest.raises(UserError, match=r"fl_setting\.candidates=9998: .* take \d+ or fewer"):
        exposed(data, lenet, candidates=9998)


def test_equal_content_has_equal_checksums(lenet: ConvNet) -> None:
    a, b = torch.arange(6.0), torch.arange(6.0)
    assert checksum_of(a) == checksum_of(b) != checksum_of(a.view(2, 3))
    assert checksum_of(lenet) != checksum_of(dataclasses.replace(lenet, width=7))


def test_an_odd_number_of_candidates_has_no_halves() -> None:
    with pytest.raises(ValidationError, match=r"multiple of 2"):
        fedavg(candidates=3)


def test_splits_that_differ_are_not_taken_for_membership(lenet: ConvNet) -> None:
    """Test images darker than all others are told from training images that the model never saw."""
    whole = digits_of(train_size=60, test_size=40, prior_size=60)
    alike = whole.load(Rng(0))
    darker = dataclasses.replace(alike, test=dataclasses.replace(alike.test, images=alike.test.images // 8))
    far, near = (exposed(data, lenet, rounds=20, lr=0.01).measures for data in (darker, alike))
    assert far["held_out_auc_low"] > 0.55
    assert near["held_out_auc_low"] < 0.5 < near["held_out_auc_high"]
    assert "held_out_auc" not in exposed(dataclasses.replace(alike, prior_of_test=60), lenet).measures
    assert "held_out_auc" not in exposed(dataclasses.replace(alike, prior=None), lenet).measures


def canaries(released: object = "last") -> tuple[Data, Exposure]:
    few = digits_of(train_size=60, test_size=20, prior_size=20, canaries=40)
    data = few.load(Rng(0))
    model = MLP(width=64, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    return data, exposed(data, model, rounds=20, lr=0.01, candidates=None, released=released)


def test_canaries_are_asked_about_alone_and_a_model_that_remembers_them_tells() -> None:
    data, out = canaries()
    assert isinstance(out.truth, Membership)
    assert isinstance(out.seen, Predictions)
    assert data.canaries is not None
    assert int(out.truth.member.sum()) == int((~out.truth.member).sum()) == 20
    for n, (inside, index) in enumerate(zip(out.truth.member.tolist(), out.truth.index.tolist(), strict=True)):
        split = data.train if inside else data.canaries.outside
        assert torch.equal(out.known.candidates.images[n], split.images[index])
        assert out.known.candidates.labels[n] == split.labels[index]
    assert set(out.truth.index[out.truth.member].tolist()) == set(data.canaries.inside.tolist())
    assert "held_out_auc" not in out.measures, "of records with right labels that are held out"
    sure = out.seen.probabilities.gather(1, out.known.candidates.labels[:, None])[:, 0]
    assert sure[out.truth.member].median() > 0.5 > sure[~out.truth.member].median()


def test_an_untrained_model_tells_no_canary() -> None:
    _, out = canaries(released=0)
    assert isinstance(out.truth, Membership)
    assert isinstance(out.seen, Predictions)
    sure = out.seen.probabilities.gather(1, out.known.candidates.labels[:, None])[:, 0]
    metrics, _ = score_membership(Scores(sure, sure > 0.1), out.truth)
    assert metrics["auc_low"] < 0.5 < metrics["auc_high"]  # type: ignore[operator]
    assert metrics["empirical_epsilon"] == 0


def test_more_candidates_than_canaries_are_refused(lenet: ConvNet) -> None:
    data = digits_of(train_size=60, test_size=20, canaries=8).load(Rng(0))
    setting = fedavg(rounds=1, clients=2, candidates=10)
    with pytest.raises(UserError, match=r"candidates=10: .* canaries .* take 8 or fewer, null for all, or more"):
        setting.views()[1].check(data, lenet, Stack({}), Rng(0))
