"""What an attack answers.

Axes: ``V`` victims, ``N`` images behind one victim's message, ``M`` records whose membership is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from privsweep.interface.asked import Imitation


@dataclass(frozen=True)
class Reconstruction:
    """An attack's guess at the images, and what the attack itself can say of it."""

    images: Tensor  # [V, N, C, H, W] on the scale of model inputs; the last finite iterate
    diverged: Tensor  # bool [V]: the attack broke off at a value that is not finite
    labels: Tensor | None = None  # int64 [V, N]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [V], e.g. the final objective
    curve: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [V, T], with "iteration" [T]


@dataclass(frozen=True)
class Scores:
    """An attack's guess at membership."""

    scores: Tensor  # [M], higher: rather a member
    decisions: Tensor  # bool [M], by a threshold that the attack chose without the truth
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [M]


@dataclass(frozen=True)
class Transcription:
    """An attack's guess at token sequences, in the order of the message."""

    tokens: Tensor  # int64 [V, N, L]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [V]
    imitation: Imitation | None = None  # asked once the guess stands, to show how far it reaches; None: there is none


@dataclass(frozen=True)
class Answers:
    """Several guesses of one attack, by name; ``chosen``, without the truth, is the one that it stands by."""

    by_name: Mapping[str, Reconstruction | Scores | Transcription]
    chosen: str


Guess = Reconstruction | Scores | Transcription | Answers
