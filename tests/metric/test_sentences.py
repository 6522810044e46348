"""How much of a sentence was recovered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privsweep.interface.data import TextDomain
from privsweep.interface.guess import Transcription
from privsweep.interface.translation import END, PADDING, SPECIAL, START, TranslationDomain, Vocabulary
from privsweep.interface.truth import Sentences
from privsweep.metric.sentences import overlap, score_sentences, sentence_table

ENGLISH = Vocabulary((*SPECIAL, "a", "dog", "runs", "fast", "."))
GERMAN = Vocabulary((*SPECIAL, "ein", "Hund", "rennt"))
DOMAIN = TranslationDomain(13, len(ENGLISH), len(GERMAN), ENGLISH, GERMAN, 7)
TRUTH = torch.tensor([[[START, 4, 5, 6, 7, 8, END]], [[START, 5, 6, END, PADDING, PADDING, PADDING]]])


class Copy:
    """Reads perfectly, and translates every sentence alike."""

    def guesses(self, tokens: Tensor) -> Tensor:
        return tokens

    def translations(self, tokens: Tensor) -> Tensor:
        return torch.tensor([[4, 5, END, PADDING]]).expand(len(tokens), -1)


def sentences() -> Sentences:
    return Sentences(TRUTH, torch.tensor([[3], [8]]), torch.tensor([[[4, 5, 6, END]], [[5, END, PADDING, PADDING]]]))


def test_padding_counts_where_it_says_so() -> None:
    guess = TRUTH.clone()
    guess[1, 0, 2] = 4
    guess[1, 0, 4:] = START
    metrics, rows = score_sentences(Transcription(guess), sentences(), DOMAIN)
    assert rows["token_accuracy"].tolist() == [1, 1 / 2]
    assert rows["token_accuracy_padded"].tolist() == [1, 3 / 7]
    assert rows["exact"].tolist() == [1, 0]
    assert rows["overlap"].tolist() == [1, 1 / 2]
    assert rows["index"].tolist() == [3, 8]
    assert metrics["token_accuracy"] == (1 + 1 / 2) / 2
    assert metrics["overlap_chance"] == (1 + 1 / 2) / 2, "every guess beside the next sentence"
    assert 0 < metrics["bleu"] < 1  # type: ignore[operator]
    assert score_sentences(Transcription(TRUTH), sentences(), DOMAIN)[0]["bleu"] == pytest.approx(1)


def test_of_pairs_each_sentence_counts_by_itself() -> None:
    truth = torch.cat((TRUTH, torch.tensor([[[START, 4, 5, END]], [[START, 5, END, PADDING]]])), 2)
    guess = truth.clone()
    guess[0, 0, 8] = 6
    pairs = Sentences(truth, torch.tensor([[3], [8]]), None)
    metrics, _ = score_sentences(Transcription(guess), pairs, DOMAIN)
    assert metrics["exact"] == metrics["exact_target"] == 1 / 2
    assert metrics["exact_source"] == metrics["token_accuracy_source"] == 1
    assert metrics["token_accuracy_target"] == 3 / 4
    assert "exact_source" not in score_sentences(Transcription(TRUTH), sentences(), DOMAIN)[0]


def test_overlap_counts_words_wherever_they_stand() -> None:
    assert overlap("gliding girl talking on her cellphone", "Trendy girl, talking on her cellphone!") == 5 / 6
    assert overlap("a a a", "a dog and a man") == 2 / 5
    assert overlap("anything", "") == 0


def test_what_the_copy_of_a_client_does_stands_beside_the_guess() -> None:
    guess = Transcription(torch.full_like(TRUTH, 8), {"shadow_loss": torch.tensor([2.0, 2.0])}, Copy())
    metrics, rows = score_sentences(guess, sentences(), DOMAIN)
    assert metrics["overlap"] == 0
    assert metrics["overlap_shadow"] == metrics["token_accuracy_shadow"] == metrics["exact_shadow"] == 1
    assert rows["overlap_translation"].tolist() == [2 / 3, 1]
    assert rows["token_accuracy_translation"].tolist() == [2 / 3, 0]
    assert metrics["shadow_loss"] == 2
    table = sentence_table(guess, sentences(), DOMAIN)
    assert list(table.columns) == [
        "victim", "truth", "translation", "shadow_translation", "guess_on_shadow", "guess",
    ]  # fmt: skip
    assert table.iloc[0].tolist() == [
        0, "a dog runs fast .", "ein Hund rennt", "ein Hund", "a dog runs fast .", ". . . . . . .",
    ]  # fmt: skip


def test_sequences_without_words_are_their_tokens() -> None:
    truth = Sentences(torch.tensor([[[1, 2, 3]]]), torch.tensor([[0]]))
    guess = Transcription(torch.tensor([[[1, 2, 4]]]))
    metrics, _ = score_sentences(guess, truth, TextDomain(3, 5, 2))
    assert metrics["token_accuracy"] == metrics["token_accuracy_padded"] == pytest.approx(2 / 3)
    table = sentence_table(guess, truth, TextDomain(3, 5, 2))
    assert table.iloc[0].tolist() == [0, "1 2 3", "1 2 4"]
    with pytest.raises(ValueError, match="the truth is"):
        score_sentences(Transcription(torch.zeros(1, 1, 2)), truth, TextDomain(3, 5, 2))
