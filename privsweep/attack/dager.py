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
from privsweep.gradient_inversion.sequences.last_layer import LastLayer, last_layer
from privsweep.gradient_inversion.sequences.matched_source import matched_source
from privsweep.gradient_inversion.sequences.one_sequence import only_sequence
from privsweep.gradient_inversion.sequences.pairs import paired
from privsweep.gradient_inversion.sequences.search import Span, searched
from privsweep.gradient_inversion.sequences.several_sequences import several_sequences
from privsweep.gradient_inversion.sequences.told_by_output import explained, told_by_output
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
    (``dropped_sequences``). Where noise, or much else that was changed, hides the spans, targets are told by the last
    layer's gradient (``told_by_output``) and, if nothing is dropped, a single source by the encoder's
    (``matched_source``); of other sources the words alone.

    Diagnostics: ``certain``, of ``examples`` times two sentences the share that fits the gradient.
    """

    version: ClassVar[int] = 3  # 1: several pairs under dropout. 2: twice as many. 3: under noise
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
            source, target = (_read(one, side, seen.examples) for side in both)
            sure = [len(side.sequences) for side in (source, target)]
            if target.doubted or target.rest:
                layer = last_layer(known.model, begins, seen.weights, one, domain.target_length)
                if layer is not None and target.doubted:
                    target, sure[1] = _told_anew(target, layer, both[0], own)
                elif layer is not None:
                    source, target = _by_output(source, target, layer, both[0], one, known, own)
            certain.append(sum(sure) / (2 * seen.examples))
            pairs = _pairs(source, target, one, both[0].embedding, seen, known, own)
            tokens.append(_joined(source, target, pairs, seen.examples))
        return Transcription(torch.stack(tokens).to(bench.device), {"certain": torch.tensor(certain)})


class _Read(NamedTuple):
    sequences: list[Tensor]  # [L] each, on the CPU
    others: list[Tensor]  # that may be in the place of one of these
    rest: list[Tensor]  # for what is missing
    words: Tensor  # that occur
    doubted: bool  # a search place by place takes noise for an end


def _read(gradient: Tensors, side: Side, examples: int) -> _Read:
    """The sequences of one side behind a gradient by parameter name; ``examples`` in all."""
    embedding, attention, following = (gradient[n].cpu() for n in (side.embedding, side.attention, side.following))
    attention = attention.double()
    behind, noise = words_behind(embedding)
    candidates = torch.cat((behind, torch.tensor([START, END]))).unique()
    if examples == 1:
        sequence, fits = only_sequence(attention, candidates, side)
        return _Read([sequence] if fits else [], [], [] if fits else [sequence], candidates, False)
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
    rest = _rest(candidates, certain, examples, len(side.places))
    return _Read(certain, others, rest, candidates, side.causal and side.kept == 1 and noise > 0)


def _by_output(
    source: _Read, target: _Read, layer: LastLayer, first: Side, gradient: Tensors, known: Knowledge, rng: Rng
) -> tuple[_Read, _Read]:
    """Both sides with targets told by the last layer where they were not certain, and a single source by its gradient.

    ``first``: of the sources.
    """
    sources, sure = _blank(target, layer, first), len(target.sequences)
    if len(sources) == 1:
        sources[0] = torch.stack([*source.sequences, *source.rest])[0]
    others = torch.stack([*target.sequences, *target.rest])[:sure].to(sources.device)
    told = told_by_output(layer, sources[sure:], (sources[:sure], others), rng)
    if len(sources) == 1:
        told = max(told, target.rest[0].to(told)[None], key=lambda guess: explained(layer, sources, guess))
        if source.rest and first.kept == 1:
            own = {n: g for n, g in gradient.items() if n.startswith(f"{layer.begins.second}.encoder.")}
            found = matched_source(sources[0], told[0], source.words, own, known, layer.weights, rng)
            source = source._replace(rest=[found.cpu()])
    return source, target._replace(sequences=[*target.sequences, *told.cpu()], rest=[])


def _told_anew(target: _Read, layer: LastLayer, first: Side, rng: Rng) -> tuple[_Read, int]:
    """All targets told by the last layer, where these explain more; and how many of those before are among them."""
    sources = _blank(target, layer, first)
    before = torch.stack([*target.sequences, *target.rest]).to(sources.device)
    told = told_by_output(layer, sources, (sources[:0], before[:0]), rng)
    told = max(before, told, key=lambda guesses: explained(layer, sources, guesses))
    sure = sum(any(torch.equal(row, one) for one in told.cpu()) for row in target.sequences)
    return target._replace(sequences=[*told.cpu()], others=[], rest=[]), sure


def _blank(target: _Read, layer: LastLayer, first: Side) -> Tensor:
    """Sources ``[N, Ls]`` of no words, for nobody knows yet which belongs to which target."""
    count = len(target.sequences) + len(target.rest)
    sources = torch.full((count, len(first.places)), PADDING, device=layer.gradient.device)
    sources[:, 0], sources[:, 1] = START, END
    return sources


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
    source: _Read, target: _Read, gradient: Tensors, name: str, seen: Update, known: Knowledge, rng: Rng
) -> list[tuple[int, int]]:
    """Positions of sequences of both sides that belong together, of the target others among them.

    They are told by the gradient of the parameter ``name``.
    """
    sources, targets = source.sequences, target.sequences + target.others
    if seen.examples == 1 or not sources or not targets:
        return [(0, 0)] if sources and targets else []
    return paired(torch.stack(sources), torch.stack(targets), gradient[name], name, known, seen.weights, rng)


def _joined(source: _Read, target: _Read, pairs: list[tuple[int, int]], examples: int) -> Tensor:
    """Tokens ``[N, Ls + Lt]``: sequences that belong together, then the others as they come."""
    both = source.sequences, target.sequences + target.others
    rows = [(both[0][a], both[1][b]) for a, b in pairs]
    left = []
    for k, side in enumerate((source, target)):
        used = {pair[k] for pair in pairs}
        more = [row for at, row in enumerate(side.sequences) if at not in used] + side.rest
        left.append(more[: examples - len(rows)])
    rows += zip(*left, strict=True)
    return torch.stack([torch.cat(row) for row in rows])
