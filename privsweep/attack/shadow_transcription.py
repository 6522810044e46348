"""Shadow transcription: a server that translates for a client imitates its embeddings, and reads what it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.activation_inversion.shadow import Choice, server_networks, shadow_network, train_shadows
from privsweep.activation_inversion.token_decoder import TokenDecoder, transcribed
from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors, TextDomain, TokenSet
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Transcription
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import Examples, LocalSchedule, Optimizer, Training, alike, replica
from privsweep.interface.translation import TranslationDomain, token_loss
from privsweep.metric.translation import loss_a_token, translated
from privsweep.model.split_network import SplitNetwork
from privsweep.training.fit import fit
from privsweep.training.local import weights_of

Count = Annotated[int, Field(ge=1)]
_SHARE = 10  # one in so many own pairs is held back from the shadow and the decoder, to judge them by
_SPEAKS = 20  # steps between two lines of progress
_AT_ONCE = 200  # held back pairs that are embedded together
_PARTS = ("head", "tail", "decoder")


@component
class ShadowTranscription(AttackBase):
    """Trains embeddings and an output layer of its own around the server's transformer, then a decoder of those.

    The query-free attack of Ensembler's appendix A.1. The shadow has the client's architecture with fresh weights, and
    learns to translate the adversary's own pairs; the server's part stays as it is. The decoder, a transformer encoder
    with a dense layer to the words, learns to read the shadow's embeddings, and is applied to the client's.

    Diagnostics, the same for every victim: ``shadow_loss``, the shadow's cross-entropy a token on own pairs that were
    held back; ``decoder_accuracy``, the share of tokens that the decoder reads on the shadow's embeddings of those.
    """

    shadow_epochs: Count
    shadow_lr: Annotated[float, Field(gt=0)]
    width: Count  # of the decoder
    heads: Count
    layers: Count
    epochs: Count
    lr: Annotated[float, Field(gt=0)]
    batch_size: Count

    observes: ClassVar[type] = Activations
    reports: ClassVar[frozenset[str]] = frozenset({"shadow_loss", "decoder_accuracy"})
    reads_sentences: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"architecture", "domain", "prior", "server_part"})
    prepares_from: ClassVar[frozenset[str]] = needs
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"server"}), "white-box")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"attack.width={self.width}: must be a multiple of attack.heads={self.heads}; change one")

    def fits(self, model: nn.Module, domain: Domain | TextDomain, prior: ImageSet | None) -> str | None:
        if not isinstance(domain, TranslationDomain):
            return (
                f"attack=shadow_transcription: reads sentences, and the target's data are {domain}; take "
                "dataset=multi30k, or attack=shadow_inversion for images"
            )
        if prior is None or len(prior) < 2 * _SHARE:
            return (
                f"attack=shadow_transcription: needs {2 * _SHARE} pairs of its own or more; take "
                "fl_setting.training_data_known=true, or hold some out: dataset.prior_size=1000"
            )
        if not isinstance(model, SplitNetwork) or len(model.sent) != 2 or model.sent[0] != domain.length:
            return (
                "attack=shadow_transcription: reads what every token is sent as, and at this cut the client sends "
                "something else; take fl_setting.first_split=1"
            )
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Weights of the shadow's head and tail and of the decoder, and the diagnostics."""
        prior, domain = known.prior, known.domain
        assert isinstance(prior, TokenSet)
        assert isinstance(domain, TranslationDomain)
        order = rng.child("held").permutation(len(prior)).to(bench.device)
        first = torch.arange(len(order), device=bench.device) % _SHARE == 0
        held, own = prior.take(order[first]), prior.take(order[~first])
        schedule = LocalSchedule(Optimizer("adam", self.shadow_lr, 0.0), self.shadow_epochs, None, self.batch_size)
        shadows = train_shadows(
            known, [_choice(known)], 0, schedule, held, own, rng.child("shadow"), bench, "sequential"
        )  # fmt: skip
        [head], [tail] = shadows.heads, shadows.tails
        whole = nn.Sequential(head, known.server_part, tail).eval()
        decoder = self._trained(head, own, domain, bench, rng.child("decoder"))
        with torch.no_grad():
            read = torch.cat([transcribed(decoder, head(part)) for part in held.tokens.split(_AT_ONCE)])
        truth = domain.sources(held.tokens)
        found = {"head": weights_of(head), "tail": weights_of(tail), "decoder": weights_of(decoder)}
        return {
            **{f"{part}.{name}": w for part, weights in found.items() for name, w in weights.items()},
            "shadow_loss": torch.tensor(loss_a_token(whole, whole.state_dict(), held, domain)),
            "decoder_accuracy": (read == truth)[domain.judged(truth)].double().mean(),
        }

    def __call__(self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Transcription:
        domain = known.domain
        assert isinstance(domain, TranslationDomain)
        shadow = shadow_network(known, _choice(known), 0, Rng(0)).to(bench.device).eval()
        with seeded(Rng(0)):
            decoder = self._decoder(seen.z.shape[-1], domain).to(bench.device).eval()
        for part, net in zip(_PARTS, (shadow.head, shadow.tail, decoder), strict=True):
            net.load_state_dict(
                {n.removeprefix(f"{part}."): w for n, w in prepared.items() if n.startswith(f"{part}.")}
            )
        tokens = transcribed(decoder, seen.z.flatten(0, 1)).view(*seen.z.shape[:2], -1)
        diagnostics = {name: prepared[name].expand(len(seen.z)) for name in ("shadow_loss", "decoder_accuracy")}
        return Transcription(tokens, diagnostics, Shadow(shadow, decoder, domain))

    def _decoder(self, features: int, domain: TranslationDomain) -> TokenDecoder:
        return TokenDecoder(features, domain, self.width, self.heads, self.layers)

    def _trained(
        self, head: nn.Module, own: TokenSet, domain: TranslationDomain, bench: Bench, rng: Rng
    ) -> TokenDecoder:
        """A decoder of the shadow's embeddings of own sentences, in eval mode."""
        with torch.no_grad():
            features = head(own.tokens[:1]).shape[-1]
        with seeded(rng):
            decoder = self._decoder(features, domain).to(bench.device)

        def read(rows: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return head(own.tokens[rows]), domain.sources(own.tokens[rows]).contiguous()

        def watch(done: int, total: int, losses: Tensor) -> None:
            if done % _SPEAKS == 0:
                bench.tick(done, total, decoder_loss=losses.mean().item())

        every: Sequence[Tensor] = [torch.arange(len(own), device=bench.device)]
        schedule = LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, self.batch_size)
        start = alike(weights_of(decoder), 1)
        training = Training(decoder, start, None, token_loss, Examples(read, every), schedule, [rng])
        decoder.load_state_dict(replica(fit(training, parallel="sequential", watch=watch).weights, 0))
        return decoder.eval()


@dataclass(frozen=True)
class Shadow:
    """The adversary's copy of the client, and the decoder that was trained on it."""

    net: SplitNetwork
    decoder: TokenDecoder
    domain: TranslationDomain

    @torch.no_grad()
    def guesses(self, tokens: Tensor) -> Tensor:
        return transcribed(self.decoder, self.net.head(self.domain.untranslated(tokens)))

    def translations(self, tokens: Tensor) -> Tensor:
        return translated(self.net, self.domain.untranslated(tokens), self.domain)


def _choice(known: Knowledge) -> Choice:
    """All networks of the server; of several the weights are learnt."""
    every = tuple(range(len(server_networks(known.server_part))))
    return Choice(every, learnt=len(every) > 1)
