"""Sentences read off the gradient of a transformer that translates, without any optimisation."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.label_inference import not_sent
from privsweep.gradient_inversion.sequences.candidates import words_behind
from privsweep.gradient_inversion.sequences.dropped_sequences import dropped_sequences
from privsweep.gradient_inversion.sequences.first_attention import Side, beginning, sides
from privsweep.gradient_inversion.sequences.one_sequence import only_sequence
from privsweep.gradient_inversion.sequences.pairs import paired
from privsweep.gradient_inversion.sequences.search import Span, searched
from privsweep.gradient_inversion.sequences.several_sequences import several_sequences
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, refuses_difference
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors, TextDomain
from privsweep.interface.guess import Transcription
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.interface.translation import END, PADDING, START, TranslationDomain


@component
class Dager(AttackBase):
    """Both sentences of every pair behind a gradient, of a transformer that translates.

    Petrov et al., "DAGER: exact gradient inversion for large language models" (NeurIPS 2024). What a layer is given
    spans the rows of its weight's gradient, so that every word can be asked whether it may stand at a place, and, in a
    causal attention, every beginning whether it may be one. Which words occur is told by the embedding's gradient.

    In the encoder every place attends to all, so that beginnings cannot be asked; and where embeddings and places are
    added up, as here, several sentences span any word at any place. Ours: what words attend to tells the sentences
    apart (``gradient_inversion.sequences.several_sequences``), and which belong to each other all pairs' gradients.
    Dropout's zeros are allowed for, of several sentences as far as the layer is wide enough to find all their inputs
    (``dropped_sequences``); noise is of one sentence, and of several that are hidden by it the words alone are told.

    Diagnostics: ``certain``, of ``examples`` times two sentences the share that fits the gradient.
    """

    version: ClassVar[int] = 2  # 1: several pairs under dropout. 2: twice as many
    observes: ClassVar[type[Update] | None] = Update
    reads_sentences: ClassVar[bool] = True
    reports: ClassVar[frozenset[str]] = frozenset({"certain"})
    needs: ClassVar[frozenset[str]] = frozenset({"model", "loss", "domain", "recipe"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "white-box")

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view)

    def fits(self, model: nn.Module, domain: Domain | TextDomain, prior: ImageSet | None) -> str | None:
        if not isinstance(domain, TranslationDomain):
            return f"attack=dager: reads sentences, and the data are {domain}; take dataset=multi30k, or attack=iga"
        begins = beginning(model)
        if begins is None:
            return "attack=dager: the network must begin as model=translation_transformer does; take that"
        missing = not_sent(model, [*begins.names("source"), *begins.names("target")])
        return f"attack=dager: the update has no {', '.join(missing)}; let them be trained" if missing else None

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Transcription:
        """Raises UserError as ``captured_gradient``."""
        domain, begins = known.domain, beginning(known.model)
        assert isinstance(domain, TranslationDomain)
        assert begins is not None
        both = sides(begins, seen.weights, domain)
        gradient = captured_gradient(seen, known)
        tokens, certain = [], []
        for at, number in enumerate(seen.victims):
            bench.tick(at, len(seen.victims))
            one = {name: g[at].nan_to_num(0, 0, 0) for name, g in gradient.items()}
            own = rng.child("victim", number)
            read = [_read(one, side, seen.examples) for side in both]
            certain.append(sum(len(r.certain) for r in read) / (2 * seen.examples))
            pairs = _pairs(read, one, both[0].embedding, seen, known, own)
            tokens.append(_joined(*read, pairs, seen.examples))
        return Transcription(torch.stack(tokens).to(bench.device), {"certain": torch.tensor(certain)})


class _Read(NamedTuple):
    certain: list[Tensor]  # sequences [L]
    others: list[Tensor]  # that may be in the place of one of these
    rest: list[Tensor]  # as many more as there are sequences


def _read(gradient: Tensors, side: Side, examples: int) -> _Read:
    """The sequences of one side behind a gradient by parameter name; ``examples`` in all."""
    embedding, attention, following = (gradient[n].cpu() for n in (side.embedding, side.attention, side.following))
    attention = attention.double()
    behind, noise = words_behind(embedding)
    candidates = torch.cat((behind, torch.tensor([START, END]))).unique()
    if examples == 1:
        sequence, fits = only_sequence(attention, candidates, side)
        return _Read([sequence], [], []) if fits else _Read([], [], [sequence])
    certain: list[Tensor] = []
    others: list[Tensor] = []
    most = examples * len(side.places)
    if side.kept < 1:
        certain = dropped_sequences(attention, candidates, side, most, noise)[:examples]
    else:
        span = Span(following[: attention.shape[1]].double() if side.causal else following.double(), most, noise)
        if side.causal and span.tells:
            certain, others = searched(span, candidates, side, examples)
        else:
            certain = several_sequences(attention, span, candidates, side, most, noise)[:examples]
    return _Read(certain, others, _rest(candidates, certain, examples, len(side.places)))


def _rest(candidates: Tensor, certain: list[Tensor], examples: int, places: int) -> list[Tensor]:
    """Sequences for what is not told apart: the words that are in none, dealt out."""
    missing = examples - len(certain)
    left = candidates[~torch.isin(candidates, torch.cat([*certain, torch.tensor([START, END])]))]
    rows = []
    for n in range(missing):
        row = torch.full((places,), PADDING)
        words = left[n::missing][: places - 2]
        row[: len(words) + 2] = torch.cat((torch.tensor([START]), words, torch.tensor([END])))
        rows.append(row)
    return rows


def _pairs(
    read: list[_Read], gradient: Tensors, name: str, seen: Update, known: Knowledge, rng: Rng
) -> list[tuple[int, int]]:
    """Positions of sequences of both sides that belong together: those that are certain, and of the target others.

    They are told by the gradient of the parameter ``name``.
    """
    sources, targets = read[0].certain, read[1].certain + read[1].others
    if seen.examples == 1 or not sources or not targets:
        return [(0, 0)] if sources and targets else []
    return paired(torch.stack(sources), torch.stack(targets), gradient[name], name, known, seen.weights, rng)


def _joined(source: _Read, target: _Read, pairs: list[tuple[int, int]], examples: int) -> Tensor:
    """Tokens ``[N, Ls + Lt]``: sequences that belong together, then the others as they come."""
    both = source.certain, target.certain + target.others
    rows = [(both[0][a], both[1][b]) for a, b in pairs]
    left = []
    for k, side in enumerate((source, target)):
        used = {pair[k] for pair in pairs}
        more = [row for at, row in enumerate(side.certain) if at not in used] + side.rest
        left.append(more[: examples - len(rows)])
    rows += zip(*left, strict=True)
    return torch.stack([torch.cat(row) for row in rows])
