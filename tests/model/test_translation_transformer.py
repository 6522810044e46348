"""The translation transformer: shapes, what padding and later words do, where it can be cut, what it refuses."""

from __future__ import annotations

import pytest
import torch
from tiny import Bench, central
from translation_world import pairs, transformer

from privsweep.interface.data import Data, Domain, TextDomain, TokenSet
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.interface.translation import PADDING, TranslationDomain
from privsweep.model.split_at import cut
from privsweep.training.fit import fit
from privsweep.training.local import weights_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data[TokenSet, TextDomain]:
    return pairs(tmp_path_factory.mktemp("data"))


def test_scores_of_every_word_at_every_place(data: Data[TokenSet, TextDomain]) -> None:
    net = transformer().build(data.domain, Rng(0))
    assert [name for name, _ in net.named_children()] == ["embed", "transformer", "output"]
    assert net(data.train.tokens[:3]).shape == (3, data.domain.classes, 8)
    with torch.device("meta"):
        empty = transformer().build(data.domain, Rng(0))
        assert empty(data.domain.blank(2)).shape == (2, data.domain.classes, 8)


def test_the_embedding_hands_on_what_is_padding_and_the_cut_changes_nothing(data: Data[TokenSet, TextDomain]) -> None:
    net = transformer().build(data.domain, Rng(0)).eval()
    x = data.train.tokens[:5]
    head, rest = cut(net, "embed")
    with torch.no_grad():
        z = head(x)
        assert z.shape == (5, 17, 17)
        assert torch.equal(z[..., -1], (x == PADDING).float())
        assert torch.equal(rest(z), net(x))


def test_neither_padding_nor_a_later_word_changes_what_comes_before(data: Data[TokenSet, TextDomain]) -> None:
    domain = data.domain
    assert isinstance(domain, TranslationDomain)
    net = transformer().build(domain, Rng(0)).eval()
    x = data.train.tokens[:4].clone()
    with torch.no_grad():
        before = net(x)
        x[:, domain.source_length + 3] = 4
        assert torch.allclose(net(x)[:, :, :3], before[:, :, :3], atol=1e-5)
        assert not torch.allclose(net(x)[:, :, 3], before[:, :, 3], atol=1e-5)
        net[0].source.weight[PADDING] += 1  # type: ignore[index, union-attr]
        net[0].target.weight[PADDING] += 1  # type: ignore[index, union-attr]
        words = data.train.labels[:4, :3] != PADDING
        assert torch.allclose(net(x)[:, :, :3].mT[words], before[:, :, :3].mT[words], atol=1e-5)


def test_dropout_draws_from_the_run_and_training_repeats(data: Data[TokenSet, TextDomain]) -> None:
    runs = []
    for seed in (0, 0):
        torch.manual_seed(len(runs))
        system = central(epochs=1, batch_size=16).train(data, transformer(), Defense(), Rng(seed), Bench())  # type: ignore[arg-type]
        runs.append(system.snapshots[1])
    assert all(torch.equal(w, runs[1][name]) for name, w in runs[0].items())


def test_stacked_replicas_are_those_alone_to_rounding(data: Data[TokenSet, TextDomain]) -> None:
    net = transformer().build(data.domain, Rng(0))
    examples = labelled(data.train, data.domain, [torch.arange(40), torch.arange(40, 80)])  # type: ignore[arg-type]
    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), 1, None, 16)
    start = alike(weights_of(net), 2)
    training = Training(net, start, None, data.domain.loss, examples, schedule, [Rng(0), Rng(1)])
    apart, together = (fit(training, parallel=how).weights for how in ("sequential", "stacked"))  # type: ignore[arg-type]
    for name, w in apart.items():
        torch.testing.assert_close(together[name], w, atol=1e-5, rtol=1e-3)


def test_it_learns_and_says_so(data: Data[TokenSet, TextDomain]) -> None:
    setting = central(epochs=60, batch_size=16, lr=3e-3)
    system = setting.train(data, transformer(width=32, dropout=0.0), Defense(), Rng(0), Bench())  # type: ignore[arg-type]
    first, last = system.curve[0], system.curve[-1]
    assert last["validation_loss"] < first["validation_loss"] / 2
    assert system.utility["test_accuracy"] > 0.7
    assert system.utility["bleu"] > 0.4
    assert set(system.utility) == {"train_accuracy", "test_accuracy", "validation_loss", "bleu"}


def test_images_are_refused_in_one_line() -> None:
    domain = Domain((3, 8, 8), 4, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match=r"^model: translates, .*images of 8x8.*dataset=multi30k") as error:
        transformer().build(domain, Rng(0))
    assert "\n" not in str(error.value)


def test_heads_share_the_width() -> None:
    with pytest.raises(UserError, match=r"model\.width=18: .*model\.heads=4; take model\.width=24$"):
        transformer(width=18, heads=4)
