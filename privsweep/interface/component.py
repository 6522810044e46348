"""The decorator for every class that a YAML names: frozen, checked field by field, no hidden defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """A frozen pydantic dataclass with keyword arguments only; an unknown key or a value out of bounds raises.

    The YAML states every value, so the record shows every value: fields carry no Python defaults.
    """
    make: Callable[[type[T]], Any] = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
    return make(cls)
