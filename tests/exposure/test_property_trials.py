"""Updates and the question whether images with a property are behind one: who has it, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import Bench, capture, fedavg

from privsweep.dataset.digits import Digits
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, PropertyTrials
from privsweep.interface.truth import Properties
from privsweep.model.convnet import ConvNet

HALVES = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def digits(**changes: Any) -> Data:
    return Digits(
        **{
            "train_size": 400, "test_size": 20, "prior_size": 120, "canaries": 0, "superclasses": HALVES,
            "resize": None, "channels": "same", "normalize": False, **changes,
        }
    ).load(Rng(0))  # fmt: skip


def view_of(**changes: Any) -> Any:
    given = {"clients": 2, "rounds": 0, "victims": 4, "capture": capture(batch_size=8), "property_class": 3}
    setting = fedavg(**{**given, "property_share": 0.25, **changes})
    return setting, next(view for view in setting.views() if view.observation is PropertyTrials)


def exposed(data: Data, lenet: ConvNet, stack: Stack | None = None, **changes: Any) -> Exposure:
    (setting, view), stack = view_of(**changes), stack or Stack({})
    system = setting.train(data, lenet, stack, Rng(0), Bench())
    view.check(data, lenet, stack, Rng(0))
    out: Exposure = view.expose(system, data, lenet, stack, Rng(0))
    return out


def test_half_have_as_many_as_is_said_and_the_others_as_many_of_the_superclass(lenet: ConvNet) -> None:
    data = digits()
    out = exposed(data, lenet, victims=10)
    assert isinstance(out.truth, Properties)
    assert data.kinds is not None
    kinds = data.kinds.train[out.truth.index]
    assert (kinds == 3).sum(1).tolist() == [2 * has for has in out.truth.present.tolist()]
    assert out.truth.present.view(5, 2).sum(1).tolist() == [1] * 5, "one of every two"
    assert len(set(out.truth.present.view(5, 2)[:, 0].tolist())) == 2, "by a draw"
    assert (kinds[:, :2] < 5).all()
    assert len(out.truth.index.unique()) == 80
    assert data.kinds.prior is not None
    assert torch.equal(out.known.has_property, data.kinds.prior == 3)
    assert "labels" not in out.known.granted()


def test_the_first_stay_when_more_are_asked_for(lenet: ConvNet) -> None:
    data = digits()
    few, more = (exposed(data, lenet, victims=victims).truth for victims in (4, 8))
    assert isinstance(few, Properties)
    assert isinstance(more, Properties)
    assert torch.equal(few.index, more.index[:4])
    assert torch.equal(few.present, more.present[:4])


def test_of_a_sum_one_client_may_have_it(lenet: ConvNet) -> None:
    data = digits()
    out = exposed(data, lenet, Stack({"own": SecureAggregation(fraction_bits=16, bits=32, dropout=0.0, threshold=2)}))
    assert isinstance(out.truth, Properties)
    assert data.kinds is not None
    assert out.truth.index.shape == (4, 16)
    assert (data.kinds.train[out.truth.index] == 3).sum(1).tolist() == [2 * has for has in out.truth.present.tolist()]


@pytest.mark.parametrize(
    ("of_data", "changes", "line"),
    [
        ({"superclasses": []}, {}, r"dataset.superclasses=\[\]: .*put it with others"),
        ({"prior_size": 0}, {}, "dataset.prior_size=0: .*hold out 1000"),
        ({"prior_size": 9}, {}, "dataset.prior_size=9: of these images [0-9] have the property, .*; hold out more"),
        ({"canaries": 4}, {}, "dataset.canaries: .*take 0"),
        ({}, {"property_class": 10}, "fl_setting.property_class=10: classes are numbered 0 to 9"),
        ({"superclasses": [[3], [0, 1, 2, 4, 5, 6, 7, 8, 9]]}, {}, "property_class=3: has a superclass for itself"),
        ({}, {"property_share": 0.0}, "fl_setting.property_share=0: .*take 0.5"),
        ({}, {"victims": 3}, "fl_setting.victims=3 .*an even number"),
        ({}, {"victim_choice": "every_class"}, "victim_choice=every_class: .*random"),
        ({}, {"property_share": 1.0, "victims": 10}, "property_share=1.0: 10 victims of 8 images need 40 "),
        (
            {},
            {"victims": 22, "capture": capture(batch_size=9), "property_share": 0.1},
            "images without the property, and client 0 holds",
        ),
    ],
)
def test_what_does_not_go_is_refused_in_a_line(
    of_data: dict[str, Any], changes: dict[str, Any], line: str, lenet: ConvNet
) -> None:
    _, view = view_of(**changes)
    with pytest.raises(UserError, match=rf"^[^\n]*{line}[^\n]*$"):
        view.check(digits(**of_data), lenet, Stack({}), Rng(0))
