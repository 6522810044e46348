"""Everything on a GPU that is pretended: nothing mixes devices, and no inner loop waits for the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gpu_runs import AGREEING, LOOPS, TINY
from gpu_steps import Place
from pretend_device import ElsewhereError, Pretence, pretending

from privsweep.cli.library import sweep
from privsweep.interface.randomness import Rng
from privsweep.run.compose import CONF
from privsweep.store.store import Store

# Not here: attacks on sentences and on captured updates, whose files their own tests write.
LEFT_OUT = {"attack": {"none", "dager", "shadow_transcription"}, "fl_setting": {"captured"}, "defense": set()}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretence]:
    with pretending(monkeypatch) as pretence:
        yield pretence


def test_tensors_say_where_they_are_and_do_not_mix(gpu: Pretence) -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert (there + 1).device.type == (2 * there.view(3, 1)).device.type == here.to(there).device.type == "cuda"
    assert here.device.type == there.cpu().device.type == "cpu"
    for mixed in (lambda: there + here, lambda: torch.cat((there, here)), lambda: there.lerp_(here, 0.5)):
        with pytest.raises(ElsewhereError, match="on the CPU and on cuda:0"):
            mixed()
    with pytest.raises(ElsewhereError, match="numpy"):
        there.numpy()
    with pytest.raises(ElsewhereError, match="generator"):
        torch.randn(3, device="cuda", generator=Rng(0).generator())
    assert torch.randn(3, device="cuda", generator=Rng(0).generator("cuda")).is_cuda


def test_gradients_and_networks_follow(gpu: Pretence) -> None:
    net = torch.nn.Linear(3, 2).to("cuda")
    torch.nn.functional.mse_loss(net(torch.ones(1, 3, device="cuda")), torch.zeros(1, 2, device="cuda")).backward()
    assert net.weight.grad is not None
    assert net.weight.grad.is_cuda
    assert torch.func.vmap(lambda row: row.to(row.device) * 2)(net.weight).is_cuda
    with pytest.raises(ElsewhereError):
        net(torch.ones(1, 3))


def test_what_the_host_waits_for_is_counted(gpu: Pretence) -> None:
    there = torch.arange(3.0, device="cuda")
    there[there > 1], there.nonzero(), there.sum().item(), there.cpu(), there.tolist(), bool(there[0])
    assert sum(gpu.waits.values()) == 6
    torch.ones(3).tolist()
    assert sum(gpu.waits.values()) == 6


@pytest.mark.parametrize("group", LEFT_OUT)
def test_every_choice_is_among_what_is_run(group: str) -> None:
    offered = {path.stem for path in (CONF / group).glob("*.yaml")} - LEFT_OUT[group]
    typed = {o for own in AGREEING.values() for o in [*own, "fl_setting=fedavg"]}
    assert offered <= {o.partition("=")[2].strip("[]") for o in typed if o.startswith(f"{group}=")}


@pytest.mark.parametrize("name", AGREEING)
def test_it_runs_on_one_device_from_end_to_end(name: str, gpu: Pretence, tmp_path: Path) -> None:
    own = ["attack.iterations=2" if o.startswith("attack.iterations") else o for o in AGREEING[name]]
    record = Place("cuda", tmp_path, "data", small=True).run(*TINY, *own)
    assert record["environment"]["device"] == "cuda"


def test_systems_that_train_alike_are_trained_together_on_it(
    gpu: Pretence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        "fl_setting=central", "fl_setting.epochs=2", "fl_setting.victims=2", "fl_setting.batch_size=512",
        "attack=blind", "model.width=3", "device=cuda", "scale=smoke", "defense=[noisy_gradients]",
        "defense.noisy_gradients.sigma=0.1,1.0", "seed=0,1",
    )  # fmt: skip
    for graphs, told, trainings in (("true", "seeds 0, 1 and 2 defences", 1), ("false", "seeds 0, 1", 2)):
        folder = tmp_path / graphs
        found = sweep(*given, f"cuda_graphs={graphs}", f"output_dir={folder}")
        assert found["status"].tolist() == ["complete"] * 4
        environments = [record["environment"] for record in Store(folder).records()]
        assert [(e["device"], e["trained_from_cache"]) for e in environments] == [("cuda", True)] * 4
        assert capsys.readouterr().err.count(f"training lenet_dlg under {told} at once") == trainings


@pytest.mark.parametrize("name", LOOPS)
def test_an_inner_loop_does_not_wait(name: str, gpu: Pretence, tmp_path: Path) -> None:
    own, key, _, each = LOOPS[name]
    few = 2
    waits = []
    for count in (few, 2 * few):
        gpu.waits.clear()
        Place("cuda", tmp_path, "data", small=True).run(*TINY, *own, f"{key}={count}", "force=true")
        waits.append(sum(gpu.waits.values()))
    assert waits[1] - waits[0] <= 0.5 * few * each, gpu.waits
