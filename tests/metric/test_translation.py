"""Loss and translations of a model that translates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from translation_world import pairs, transformer

from privsweep.interface.data import Data, TextDomain, TokenSet
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import END, PADDING, START, TranslationDomain, token_loss
from privsweep.metric.accuracy import accuracy
from privsweep.metric.translation import bleu, bleu_of_translations, loss_a_token, translated


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data[TokenSet, TextDomain]:
    return pairs(tmp_path_factory.mktemp("data"))


class Recites(nn.Module):
    """Knows one sentence by heart, and goes by the place alone."""

    def __init__(self, sentence: list[int], domain: TranslationDomain):
        super().__init__()
        self.domain, self.sentence = domain, sentence
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        places = x.shape[1] - self.domain.source_length
        said = torch.tensor((self.sentence + [PADDING] * places)[:places])
        return nn.functional.one_hot(said, self.domain.classes).float().T.expand(len(x), -1, -1) + self.weight


def test_padding_counts_neither_in_the_accuracy_nor_in_the_loss(data: Data[TokenSet, TextDomain]) -> None:
    domain = data.domain
    assert isinstance(domain, TranslationDomain)
    labels = torch.tensor([[5, 6, END, PADDING, PADDING, PADDING, PADDING, PADDING], [5, 7, 8, 9, 10, 11, 12, END]])
    split = TokenSet(data.train.tokens[:2], labels)
    model = Recites([5, 6, END], domain)
    assert accuracy(model, model.state_dict(), split, domain) == pytest.approx(4 / 11)
    sure = math.log(math.e + domain.classes - 1)
    assert loss_a_token(model, model.state_dict(), split, domain) == pytest.approx((11 * sure - 4) / 11, rel=1e-5)
    each = [(3 * sure - 3) / 3, (8 * sure - 1) / 8]
    assert token_loss(model(split.tokens), labels).item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_a_greedy_translation_ends_and_does_not_look_at_the_reference(data: Data[TokenSet, TextDomain]) -> None:
    domain = data.domain
    assert isinstance(domain, TranslationDomain)
    found = translated(Recites([5, 6, END], domain), data.test.tokens, domain)
    assert found[:, :3].tolist() == [[5, 6, END]] * len(data.test)
    assert (found[:, 3:] == PADDING).all()
    endless = translated(Recites([5] * 20, domain), data.test.tokens, domain)
    assert (endless == 5).all()
    net = transformer().build(domain, Rng(0)).eval()
    other = data.test.tokens.clone()
    other[:, domain.source_length + 1 :] = PADDING
    assert torch.equal(translated(net, data.test.tokens, domain), translated(net, other, domain))
    assert (domain.untranslated(domain.sources(other))[:, domain.source_length] == START).all()


def test_bleu_of_the_reference_itself_is_one(data: Data[TokenSet, TextDomain]) -> None:
    assert bleu(["ein Mann rennt in Gras ."], ["ein Mann rennt in Gras ."]) == pytest.approx(1)
    assert bleu(["ein Hund sitzt"], ["zwei Männer rennen schnell"]) == 0
    domain = data.domain
    assert isinstance(domain, TranslationDomain)
    longest = data.test.labels[(data.test.labels != PADDING).sum(1).argmax()]
    one = TokenSet(data.test.tokens[:1], longest[None])
    model = Recites(longest.tolist(), domain)
    assert bleu_of_translations(model, model.state_dict(), one, domain) == pytest.approx(1)
