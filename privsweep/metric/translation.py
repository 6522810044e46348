"""What a model that translates is worth: its loss, and its own translations against those of people."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from privsweep.interface.data import Tensors, TokenSet
from privsweep.interface.translation import END, PADDING, TranslationDomain, token_losses
from privsweep.metric.accuracy import outputs_of

BATCH = 100  # pairs at once: an output has as many numbers a place as there are words


def loss_a_token(model: nn.Module, weights: Tensors, split: TokenSet, domain: TranslationDomain) -> float:
    """The mean cross-entropy, in nats, over all tokens of the split but padding, given the true words before each."""
    total, count = 0.0, 0
    for chosen, outputs in outputs_of(model, weights, split, domain, BATCH):
        labels = split.labels[chosen]
        total += token_losses(outputs, labels).double().sum().item()
        count += int(domain.judged(labels).sum())
    return total / count


@torch.no_grad()
def translated(model: nn.Module, inputs: Tensor, domain: TranslationDomain) -> Tensor:
    """Greedy translations int64 ``[n, Lt]`` of the sources in ``inputs`` ``[n, Ls + Lt]``: always the likeliest word.

    What inputs say of the target is not read. ``model`` is in eval mode. A translation ends with its first end, behind
    which there is padding, or where there is no more room.
    """
    parts = [_greedy(model, part, domain) for part in domain.sources(inputs).split(BATCH)]
    return torch.cat(parts)


def _greedy(model: nn.Module, sources: Tensor, domain: TranslationDomain) -> Tensor:
    x = domain.untranslated(sources)
    words = torch.full((len(x), domain.target_length), PADDING, device=x.device)
    going = torch.arange(len(x), device=x.device)  # those that have not ended
    for place in range(domain.target_length):
        words[going, place] = model(x[going])[:, :, place].argmax(1)
        going = going[words[going, place] != END]
        after = domain.source_length + place + 1
        if not len(going) or after == x.shape[1]:
            break
        x[going, after] = words[going, place]
    return words


def bleu(guesses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of a corpus, from 0 to 1 (Papineni et al., 2002), over words apart by blanks; one reference each."""
    from torchmetrics.functional.text import bleu_score

    return float(bleu_score(list(guesses), [[reference] for reference in references]))


def bleu_of_translations(model: nn.Module, weights: Tensors, split: TokenSet, domain: TranslationDomain) -> float:
    """BLEU of greedy translations against the split's; rare words are <unk> in both."""
    whole = deepcopy(model).eval()
    whole.load_state_dict(dict(weights))
    guessed = translated(whole, split.tokens, domain)
    return bleu([domain.target.text(row) for row in guessed], [domain.target.text(row) for row in split.labels])
