"""An attack with several answers: black, grey and white, of which it stands by grey."""

import torch

from privsweep import Answers, AttackBase, Reconstruction, ThreatModel, Update, component


@component
class Greys(AttackBase):
    levels: dict[str, float]  # answer -> pixel value
    chosen: str

    observes = Update
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server", "client"}), "black-box")

    def __call__(self, seen, known, prepared, bench, rng):
        victims = len(next(iter(seen.delta.values())))
        shape = (victims, seen.examples, *known.domain.shape)
        none = torch.zeros(victims, dtype=torch.bool)
        guesses = {
            name: Reconstruction(known.domain.inputs(torch.full(shape, level)), none)
            for name, level in self.levels.items()
        }
        return Answers(guesses, self.chosen)
