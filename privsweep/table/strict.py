"""The base of all parts of an experiment file: checked field by field, nothing converted or ignored."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Name = Annotated[str, StringConstraints(pattern=r"^\w+$")]  # of a column in a run's CSV files


class Strict(BaseModel):
    """A frozen record; an unknown key or a value of another type raises."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, given: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        """In place of pydantic's ``extra="forbid"``, which does not say what may have been meant."""
        unknown = [key for key in given if key not in cls.model_fields] if isinstance(given, Mapping) else []
        if not unknown:
            return check(given)
        wrong: list[InitErrorDetails] = [
            {"type": cls._no_such_key(str(key)), "loc": (str(key),), "input": None} for key in unknown
        ]
        try:
            check({key: value for key, value in given.items() if key not in unknown})
        except ValidationError as error:  # the rest is told, too
            wrong += [
                {"type": PydanticCustomError(e["type"], e["msg"]), "loc": e["loc"], "input": e["input"]}
                for e in error.errors()
            ]
        raise ValidationError.from_exception_data(cls.__name__, wrong)

    @classmethod
    def _no_such_key(cls, key: str) -> PydanticCustomError:
        near = get_close_matches(key, cls.model_fields, 1)
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(cls.model_fields)}"
        return PydanticCustomError("no_such_key", "no such key; {remedy}", {"remedy": remedy})
