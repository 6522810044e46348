"""What a dataset says of its keys, where it is the adversary's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from privsweep.interface.errors import AbsentError, UserError
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.placed_words import named_as

SAID = "dataset=x: dataset.path=/a/dataset.v1/b: too few; set dataset.train_size"


@pytest.mark.parametrize(
    ("part", "told"),
    [("dataset", SAID), ("prior", "dataset@prior=x: prior.path=/a/dataset.v1/b: too few; set prior.train_size")],
)
def test_its_keys_are_those_of_its_part(part: str, told: str) -> None:
    with pytest.raises(AbsentError) as raised, named_as(part):
        raise AbsentError(SAID)
    assert str(raised.value) == told


def test_a_folder_of_the_adversarys_that_is_not_there(tmp_path: Path) -> None:
    own = ["dataset@prior=folder", f"prior.path={tmp_path}/no", f"output_dir={tmp_path}"]
    with searching(None), pytest.raises(UserError, match=rf"^prior\.path={tmp_path}/no: no such folder"):
        build(compose(["attack=generative_decoder", "fl_setting=split", "model=lenet", *own]))
