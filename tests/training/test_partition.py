import pytest
import torch

from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.training.partition import partition

LABELS = torch.arange(10).repeat(20)


@pytest.mark.parametrize("how", ["iid", "disjoint", "dirichlet"])
def test_every_example_has_one_owner(how: str) -> None:
    parts = partition(LABELS, 10, 3, how, 0.5, Rng(0))  # type: ignore[arg-type]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(200))
    again = partition(LABELS, 10, 3, how, 0.5, Rng(0))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))


def test_iid_is_equal_and_holds_all_labels() -> None:
    parts = partition(LABELS, 10, 3, "iid", 0.5, Rng(0))
    assert sorted(map(len, parts)) == [66, 67, 67]
    assert all(len(LABELS[p].unique()) == 10 for p in parts)


def test_disjoint_clients_share_no_label() -> None:
    labels = [set(LABELS[p].tolist()) for p in partition(LABELS, 10, 3, "disjoint", 0.5, Rng(0))]
    assert sorted(map(len, labels)) == [3, 3, 4]
    assert len(set.union(*labels)) == 10


def test_dirichlet_is_less_even_for_a_smaller_alpha() -> None:
    def skew(alpha: float) -> float:
        parts = partition(LABELS, 10, 3, "dirichlet", alpha, Rng(0))
        shares = torch.stack([torch.bincount(LABELS[p], minlength=10) / 20 for p in parts])
        return shares.std(0).mean().item()

    assert skew(0.1) > 2 * skew(100.0)


@pytest.mark.parametrize(
    ("how", "clients", "names"),
    [("iid", 300, "fl_setting.clients=300"), ("disjoint", 11, "fl_setting.clients=10"), ("dirichlet", 150, "alpha")],
)
def test_what_does_not_go_round_is_refused(how: str, clients: int, names: str) -> None:
    with pytest.raises(UserError, match=names):
        partition(LABELS, 10, clients, how, 0.01, Rng(0))  # type: ignore[arg-type]
