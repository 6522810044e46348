"""What is measured where the adversary knows every record but one."""

from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor

from privsweep.interface.data import Domain
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.truth import Images
from privsweep.metric import release
from privsweep.metric.reconstruction import score_reconstruction
from privsweep.metric.release import nearest

DOMAIN = Domain((1, 1, 3), 4, (0.0,), (1.0,))


def row(*pixels: float) -> Tensor:
    """An image of one line."""
    return torch.tensor(pixels, dtype=torch.float64)[None, None]


def scored(guess: Sequence[Tensor], truth: Sequence[Tensor], oracle: Sequence[float], domain: Domain = DOMAIN):
    n = len(truth)
    original = torch.stack(truth)[:, None]
    known = Images(
        original, torch.zeros(n, 1, dtype=torch.int64), torch.arange(n)[:, None], torch.tensor(oracle)[:, None]
    )
    answer = Reconstruction(domain.inputs(torch.stack(guess)[:, None]), torch.zeros(n, dtype=torch.bool))
    return score_reconstruction(answer, known, domain, None, 0.6)[:2]


class TestNearest:
    def images(self, n: int, seed: int) -> Tensor:
        return torch.randint(0, 256, (n, 2, 5, 5), generator=Rng(seed).generator(), dtype=torch.uint8)

    def test_it_is_what_all_differences_say(self, monkeypatch):
        monkeypatch.setattr(release, "_CHUNK", 7)
        first, second = self.images(30, 1), self.images(5, 2)
        targets = torch.rand(3, 2, 2, 5, 5, generator=Rng(3).generator())
        known = torch.cat([first, second]).double() / 255
        expected = (targets.double()[:, :, None] - known).square().mean((3, 4, 5)).min(2).values
        torch.testing.assert_close(nearest(targets, [first, second]), expected, rtol=1e-6, atol=0)

    def test_a_target_that_is_known_is_at_exactly_zero_in_whatever_set(self):
        sets = [self.images(30, 1), self.images(5, 2)]
        targets = torch.stack([sets[0][29], sets[1][2], sets[0][0]]).float().div_(255)[:, None]
        assert nearest(targets, sets).tolist() == [[0.0]] * 3

    def test_of_two_that_differ_by_one_level_in_one_pixel_the_right_one_wins(self):
        one = self.images(1, 1)
        other = one.clone()
        other[0, 1, 4, 4] ^= 1
        assert nearest(one[:, None].float() / 255, [other]).item() == pytest.approx(1 / 255**2 / 50, rel=1e-4)
        assert nearest(one[:, None].float() / 255, [other, one]).item() == 0

    def test_nothing_known_is_an_error(self):
        with pytest.raises(ValueError, match="no known image"):
            nearest(torch.rand(1, 1, 2, 5, 5), [self.images(0, 1)])


def test_the_oracle_is_beaten_target_by_target():
    metrics, victims = scored([row(0, 0, 0), row(0.5, 0.5, 0.5)], [row(0, 0, 0), row(0, 0, 0)], [0.01, 0.2])
    assert victims["mse"].tolist() == [0, 0.25]
    assert victims["below_oracle"].tolist() == [True, False]
    assert victims["oracle_mse"].tolist() == pytest.approx([0.01, 0.2])
    assert metrics["below_oracle"] == 0.5
    assert metrics["oracle_mse"] == pytest.approx(0.105)


def test_an_equal_distance_is_not_below_the_oracle():
    assert scored([row(0.5, 0.5, 0.5)], [row(0, 0, 0)], [0.25])[0]["below_oracle"] == 0


def test_variation_and_border_of_a_picture_by_hand():
    """A dark frame with one bright pixel inside, and a left half beside a right half."""
    dot, halves = torch.zeros(1, 4, 4).double(), torch.zeros(1, 4, 4).double()
    dot[0, 1, 1] = 1
    halves[0, :, 2:] = 1
    domain = Domain((1, 4, 4), 4, (0.0,), (1.0,))
    metrics, victims = scored([dot, halves + 0.1], [dot, halves], [1.0, 1.0], domain)
    assert victims["total_variation"].tolist() == pytest.approx([2 / 12 + 2 / 12, 4 / 12])
    assert victims["border_variance"].tolist() == pytest.approx([0, 0.25])  # 6 of 12 along the edge are bright
    assert metrics["border_variance_easiest"] == pytest.approx(0)
    assert metrics["border_variance_hardest"] == pytest.approx(0.25)


def test_every_channel_has_a_background_of_its_own():
    """An even colour has no variance along the edge."""
    blue = torch.zeros(3, 4, 4)
    blue[2] = 1
    _, victims = scored([blue], [blue], [1.0], Domain((3, 4, 4), 4, (0.0,) * 3, (1.0,) * 3))
    assert (victims["total_variation"].item(), victims["border_variance"].item()) == (0, 0)


def test_easiest_and_hardest_are_six_by_their_error():
    truth = [row(0, 0, 0)] * 20
    metrics, victims = scored([row(v / 20, v / 20, v / 20) for v in reversed(range(20))], truth, [1.0] * 20)
    errors = victims["mse"].sort_values()
    assert metrics["mse_easiest"] == pytest.approx(errors[:6].mean())
    assert metrics["mse_hardest"] == pytest.approx(errors[-6:].mean())
    low, high = stats.t.interval(0.95, 5, errors[-6:].mean(), stats.sem(errors[-6:]))
    assert (metrics["mse_hardest_low"], metrics["mse_hardest_high"]) == pytest.approx((low, high))


def test_one_victim_has_no_interval():
    assert "mse_easiest_low" not in scored([row(0, 0, 0)], [row(0, 0, 0)], [1.0])[0]


class TestRoc:
    """Four targets on a line."""

    truth = tuple(row(v, v, v) for v in (0.1, 0.2, 0.3, 0.4))

    def test_perfect_answers(self):
        metrics, _ = scored(self.truth, self.truth, [1.0] * 4)
        found = [metrics[name] for name in ("reconstruction_auc", "tpr_at_1_fpr", "tpr_at_01_fpr")]
        assert found == [1, 1, 1]

    def test_one_and_the_same_answer_for_all_tells_nothing(self):
        metrics, _ = scored([row(0.25, 0.25, 0.25)] * 4, self.truth, [1.0] * 4)
        assert metrics["reconstruction_auc"] == pytest.approx(0.5)
        assert metrics["tpr_at_1_fpr"] == 0

    def test_an_answer_beside_another_target_by_hand(self):
        """Errors are 0, 0, 0.0625 and 0. Of the twelve distances to others, from 0.01 up, eight are below 0.0625."""
        metrics, _ = scored([*self.truth[:2], row(0.55, 0.55, 0.55), self.truth[3]], self.truth, [1.0] * 4)
        assert metrics["reconstruction_auc"] == pytest.approx((3 * 12 + 4) / 48)
        assert metrics["tpr_at_1_fpr"] == metrics["tpr_at_01_fpr"] == 0.75

    def test_a_false_positive_rate_admits_its_share_of_the_others(self):
        """Of 110 distances to others, 1% admit one: the nearest, which belongs to the one wrong answer."""
        truth = [row(k / 10, k / 10, k / 10) for k in range(11)]
        wrong = 0.52
        guess = [row(wrong, wrong, wrong), *truth[1:]]
        metrics, _ = scored(guess, truth, [1.0] * 11)
        assert metrics["tpr_at_1_fpr"] == metrics["tpr_at_01_fpr"] == pytest.approx(10 / 11)

    def test_one_target_has_no_others(self):
        metrics, _ = scored(self.truth[:1], self.truth[:1], [1.0])
        assert (metrics["reconstruction_auc"], metrics["tpr_at_1_fpr"]) == (None, None)


def test_without_an_oracle_nothing_is_added():
    truth = Images(row(0, 0, 0)[None, None], torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64))
    guess = Reconstruction(row(0, 0, 0)[None, None], torch.zeros(1, dtype=torch.bool))
    metrics, victims, _ = score_reconstruction(guess, truth, DOMAIN, None, 0.6)
    assert not {"oracle_mse", "below_oracle", "mse_easiest", "reconstruction_auc"} & (metrics.keys() | set(victims))


def test_the_curve_goes_through_what_is_reported() -> None:
    truth = torch.rand(40, 1, 1, 4, 4, generator=Rng(3).generator(), dtype=torch.float64)
    guess = truth + 0.2 * torch.randn(truth.shape, generator=Rng(4).generator(), dtype=torch.float64)
    false, true = release.reconstruction_roc(guess, truth)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    columns = {name: torch.arange(40.0) for name in ("mse", "total_variation", "border_variance")}
    told = release.release_metrics(columns, guess, truth)
    area = float(((true[1:] + true[:-1]) / 2 * (false[1:] - false[:-1])).sum())
    assert told["reconstruction_auc"] == pytest.approx(area)
    assert told["tpr_at_1_fpr"] == pytest.approx(true[false <= 0.01].max(), abs=1 / 40)
