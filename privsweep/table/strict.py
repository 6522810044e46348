"""The base of all parts of an experiment file: checked field by field, nothing converted or ignored."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Name = Annotated[str, StringConstraints(pattern=r"^\w+$")]  # of a column in a run's CSV files


class Strict(BaseModel):
    """A frozen record; an unknown key or a value of another type raises."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
