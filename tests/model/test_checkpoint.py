"""Initial weights from a file of the user's own, for every model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY
from torch import Tensor, nn

from privsweep.interface.data import Domain
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.randomness import Rng
from privsweep.model.checkpoint import Checkpoint, FromCheckpoint, split_weights
from privsweep.model.convnet import ConvNet
from privsweep.model.torchvision_model import TorchvisionModel
from privsweep.store.atomic import read_json
from privsweep.store.fingerprint import checksum_of

DIGITS = Domain((1, 8, 8), 10, (0.0,), (1.0,))
State = dict[str, Tensor]


@pytest.fixture
def state(lenet: ConvNet) -> State:
    return dict(lenet.build(DIGITS, Rng(7)).state_dict())


def put(path: Path, state: State) -> Checkpoint:
    save_file({name: t.contiguous() for name, t in state.items()}, path)
    return Checkpoint(path)


def test_networks_begin_with_its_weights_whatever_the_seed(tmp_path: Path, lenet: ConvNet, state: State) -> None:
    model = FromCheckpoint(lenet, put(tmp_path / "a.safetensors", state)).build(DIGITS, Rng(3))
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.module."])
def test_names_behind_one_prefix_are_the_networks(tmp_path: Path, lenet: ConvNet, state: State, prefix: str) -> None:
    wrapped = {f"{prefix}{name}": t for name, t in state.items()}
    model = FromCheckpoint(lenet, put(tmp_path / "a.safetensors", wrapped)).build(DIGITS, Rng(3))
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    more = put(tmp_path / "b.safetensors", {**wrapped, "epoch": torch.zeros(())})
    with pytest.raises(UserError, match=r"has epoch, which the network has not; .*, or leave it out of the file$"):
        FromCheckpoint(lenet, more).build(DIGITS, Rng(3))
    twice = put(tmp_path / "c.safetensors", {**wrapped, **{f"ema.{name}": t.clone() for name, t in state.items()}})
    with pytest.raises(UserError, match=r"has no conv1\.weight.* \(in the file: \S+conv1\.bias, .*\)$"):
        FromCheckpoint(lenet, twice).build(DIGITS, Rng(3))
    short = put(tmp_path / "d.safetensors", {**wrapped, f"{prefix}output.bias": torch.zeros(4)})
    with pytest.raises(UserError, match=rf"{prefix}output\.bias is 4 there and 10 in the network"):
        FromCheckpoint(lenet, short).build(DIGITS, Rng(3))


def test_running_statistics_come_along(tmp_path: Path) -> None:
    architecture = TorchvisionModel(name="shufflenet_v2_x0_5")
    trained: nn.Module = architecture.build(DIGITS, Rng(0)).train()
    trained(torch.rand(4, 1, 8, 8))
    checkpoint = put(tmp_path / "a.safetensors", dict(trained.state_dict()))
    model = FromCheckpoint(architecture, checkpoint).build(DIGITS, Rng(1))
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.eval()(x), trained.eval()(x))


def missing(state: State) -> State:
    return {name: t for name, t in state.items() if name != "conv2.weight"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (missing, r"has no conv2\.weight, 3x3x5x5 in the network; choose"),
        (lambda s: {**s, "output.bias": torch.zeros(4)}, r"output\.bias is 4 there and 10 in the network; choose"),
        (lambda s: {**s, "zz": torch.zeros(1), "extra": torch.zeros(())}, r"has extra, which the network has not"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_first_mismatch_is_named_before_any_work(
    tmp_path: Path, lenet: ConvNet, state: State, change: Any, line: str, device: str
) -> None:
    checkpoint = put(tmp_path / "a.safetensors", change(state))
    with torch.device(device), pytest.raises(UserError, match=rf"^model\.weights=.*a\.safetensors: {line}") as error:
        FromCheckpoint(lenet, checkpoint).build(DIGITS, Rng(0))
    assert "\n" not in str(error.value)


def test_nothing_is_unpickled(tmp_path: Path, lenet: ConvNet) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"was pickled, which may run code; write the state with safetensors"):
        FromCheckpoint(lenet, Checkpoint(tmp_path / "a.safetensors")).build(DIGITS, Rng(0))
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_there(tmp_path: Path, lenet: ConvNet) -> None:
    checkpoint = Checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.files().state is None
    for use in (checkpoint.fingerprint, lambda: FromCheckpoint(lenet, checkpoint).build(DIGITS, Rng(0))):
        with pytest.raises(AbsentError, match=r"^model\.weights=.*a\.safetensors: no such file; give"):
            use()


def test_what_is_prepared_depends_on_the_contents_not_on_the_place(
    tmp_path: Path, lenet: ConvNet, state: State
) -> None:
    here, there = (put(tmp_path / name, state) for name in ("a.safetensors", "b.safetensors"))
    other = put(tmp_path / "c.safetensors", {**state, "output.bias": torch.ones(10)})
    one, same, changed = (checksum_of(FromCheckpoint(lenet, c)) for c in (here, there, other))
    assert one == same != changed


def test_weights_are_a_path_or_null() -> None:
    assert split_weights({"width": 3, "weights": None}) == ({"width": 3}, None)
    assert split_weights({"width": 3}) == ({"width": 3}, None)
    with pytest.raises(UserError, match=r"model\.weights=3: is no path"):
        split_weights({"weights": 3})


def test_a_federation_begins_with_it_and_its_contents_sign_the_run(
    privsweep: Any, tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        put(tmp_path / f"{name}.safetensors", state)
    given = ["attack=none", "fl_setting.rounds=0", *TINY]
    for file in ("a", "b"):
        assert privsweep(*given, f"model.weights={tmp_path}/{file}.safetensors", tiny=False) == 0
    assert privsweep(*given, tiny=False) == 0
    weights = {p: read_json(p)["config"]["model"]["weights"] for p in tmp_path.glob("outputs/runs/*/record.json")}
    assert len(weights) == 2, "the second file was found to be the first"
    assert sorted(map(str, weights.values())) == sorted([Checkpoint(tmp_path / "a.safetensors").fingerprint(), "None"])
    put(tmp_path / "a.safetensors", {**state, "output.bias": torch.ones(10)})
    assert privsweep(*given, f"model.weights={tmp_path}/a.safetensors", tiny=False) == 0
    assert len(list(tmp_path.glob("outputs/runs/*/record.json"))) == 3
    assert privsweep(*given, f"model.weights={tmp_path}/a.safetensors", "model.width=4", tiny=False) == 2
    assert "conv1.weight is 3x1x5x5 there and 4x1x5x5 in the network" in capsys.readouterr().err
    (tmp_path / "b.safetensors").unlink()
    assert privsweep(*given, f"model.weights={tmp_path}/b.safetensors", tiny=False) == 0, "its record is found"
    assert privsweep(*given, f"model.weights={tmp_path}/b.safetensors", "seed=1", tiny=False) == 2
