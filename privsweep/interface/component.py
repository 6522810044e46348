"""The decorator for every class that a YAML names: frozen, validated field by field, without hidden defaults.

Results are found again by hashes of what determines them. A field that has no part in one says so in its type:
``memory: ResourceOnly[float]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")
Outside = Literal["signature", "training", "preparation", "undefended", "zero"]


@plain_dataclass(frozen=True)
class Mark:
    """In the type of a field: which hash it is left out of."""

    outside: Outside


# What a computation may use, memory or cores: it changes no result but by rounding, and enters no hash.
ResourceOnly = Annotated[T, Mark("signature")]
# What an adversary gets to see of a trained system, which training knows nothing of.
ExposureOnly = Annotated[T, Mark("training")]
# How an attack judges with the decoders or shadow models that it prepared, whatever it does with them.
JudgementOnly = Annotated[T, Mark("preparation")]
# What says something only beside a defence: where there is none it enters no hash.
BesideDefense = Annotated[T, Mark("undefended")]
# What is not there at zero: then it enters no hash.
UnlessZero = Annotated[T, Mark("zero")]


# The same in a plain dataclass, ``field(metadata={COUNTS_AS: value})``: checksums take every value for this one.
COUNTS_AS = "counts as"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """A frozen pydantic dataclass with keyword arguments only; an unknown key, a value out of bounds and an infinite
    one raise.

    The YAML states every value, so the record shows every value: fields carry no Python defaults.
    """
    make: Callable[[type[T]], Any] = dataclass(
        frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False)
    )
    return make(cls)


def marked(made: Any, *outside: Outside) -> frozenset[str]:
    """The fields of a component, or of its class, that are left out of one of these hashes."""
    fields = made.__pydantic_fields__
    return frozenset(
        name
        for name, field in fields.items()
        if any(isinstance(mark, Mark) and mark.outside in outside for mark in field.metadata)
    )


def without(made: T, fields: frozenset[str]) -> T:
    """A copy of a component on which ``fields`` do not exist: code that asks for one raises AttributeError."""
    copy = object.__new__(type(made))
    copy.__dict__.update({name: value for name, value in vars(made).items() if name not in fields})
    return copy
