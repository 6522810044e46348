"""Updates captured elsewhere: attacked with and without the originals, and one line for every faulty file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from captured_world import GIVEN, gradients, images, network
from conftest import Privsweep
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import privsweep as library
from privsweep.exposure.captured_updates import CapturedUpdates, Expected, read_updates
from privsweep.exposure.update_file import UpdateFile, UpdateFiles, recipe
from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError

DOMAIN = Domain((1, 8, 8), 10, (0.0,), (1.0,))


def read(*paths: Path, net: nn.Module | None = None) -> CapturedUpdates:
    return read_updates([UpdateFile(path, str(path)) for path in paths], Expected.of(net or network()), DOMAIN)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Three victims of one image each."""
    net, (pixels, labels) = network(), images(3)
    sent = gradients(net, pixels, labels)
    return library.save_update(tmp_path / "u.safetensors", net, sent, batch_size=1, labels=labels, originals=pixels)


@pytest.mark.parametrize(
    "attack", [["attack=dlg", "attack.restarts=4"], ["attack=iga", "attack.labels=analytic", "attack.iterations=400"]]
)
def test_images_come_out_of_gradients_of_plain_torch(attack: list[str], privsweep: Privsweep, tmp_path: Path) -> None:
    """Nothing but the gradient and the weights go in; the original that was kept here is what comes out."""
    net, (pixels, labels) = network(), images(2)
    library.save_update("u.safetensors", net, gradients(net, pixels, labels), batch_size=1)
    assert privsweep(*GIVEN, "fl_setting.path=u.safetensors", *attack, "scale=quick", tiny=False) == 0
    [folder] = tmp_path.glob("outputs/runs/*")
    with np.load(folder / "images.npz") as arrays:
        assert arrays.files == ["reconstructions"]
        found = torch.from_numpy(arrays["reconstructions"]) / 255
    assert (found - pixels).square().mean((1, 2, 3, 4)).max() < 1e-3
    record = json.loads((folder / "record.json").read_text())
    assert {"gradient_distance", "diverged"} <= record["metrics"].keys()
    assert not {"mse", "ssim", "label_accuracy", "recovered"} & record["metrics"].keys()
    assert "path" not in record["config"]["fl_setting"]
    rows = pd.read_csv(folder / "victims.csv")
    assert {"victim", "diverged", "gradient_distance"} <= set(rows.columns)
    assert (folder / "reconstructions.png").is_file()


def test_with_the_originals_it_is_scored(saved: Path, privsweep: Privsweep, tmp_path: Path) -> None:
    saved.rename(tmp_path / "other name.safetensors")
    own = [*GIVEN, f"fl_setting.path='{tmp_path}'", "attack=dlg", "fl_setting.victims=2"]
    assert privsweep(*own, "scale=quick", tiny=False) == 0
    [path] = tmp_path.glob("outputs/runs/*/record.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert metrics["recovered"] == metrics["label_accuracy"] == 1
    assert len(pd.read_csv(path.parent / "victims.csv")) == 2


def test_a_difference_of_one_step_is_its_gradient(tmp_path: Path) -> None:
    net, (pixels, labels) = network(), images(1, 4)
    sent = {name: -0.5 * g[0] for name, g in gradients(net, pixels, labels).items()}
    path = library.save_update(tmp_path / "d.safetensors", net, sent, what="difference", batch_size=4, lr=0.5)
    run = library.compose(*GIVEN, f"fl_setting.path={path}", "attack=dlg", "scale=smoke", f"output_dir={tmp_path}/o")
    found = read(path)
    assert (found.what, found.notes["lr"], found.notes["batch_size"]) == ("difference", 0.5, 4)
    record = library.execute(run)
    assert record["metrics"]["diverged"] == 0


def test_a_training_loop_saves_its_gradients_as_they_lie(tmp_path: Path) -> None:
    net, (pixels, labels) = network(), images(1, 2)
    nn.functional.cross_entropy(net(pixels[0]), labels[0]).backward()
    named = read(library.save_update(tmp_path / "a.safetensors", nn.DataParallel(net), batch_size=2))
    listed = [p.grad.double() for p in net.parameters() if p.grad is not None]
    plain: dict[str, Any] = {"labels": labels[0].tolist(), "originals": pixels[0].numpy()}
    in_order = read(library.save_update(tmp_path / "b.safetensors", net, listed, batch_size=2, **plain))
    for name, g in gradients(net, pixels, labels).items():
        assert torch.allclose(named.delta[name], g)
        assert torch.equal(named.delta[name], in_order.delta[name])
    assert named.labels is None
    assert in_order.labels is not None
    assert torch.equal(in_order.labels, labels)


def test_the_victims_of_a_folder_are_those_of_its_files(saved: Path) -> None:
    net, (pixels, labels) = network(), images(5)
    later = saved.with_name("v.safetensors")
    whole = gradients(net, pixels, labels)
    library.save_update(later, net, whole, batch_size=1, labels=labels, originals=pixels)
    files = UpdateFiles(saved.parent, "fl_setting.path")
    assert [file.path for file in files.each()] == [saved, later]
    found = read(saved, later)
    assert found.originals is not None
    assert torch.equal(found.originals, torch.cat([images(3)[0], pixels]))
    assert len(found.delta["fc1.bias"]) == 8
    for other, says in [
        ({"model": network(1), "labels": labels, "originals": pixels}, "starts from other weights than u.safetensors"),
        ({"model": net, "originals": pixels}, "tells less of labels than u.safetensors"),
        ({"model": frozen(network(), "fc1"), "labels": labels, "originals": pixels}, "an update of other parameters"),
    ]:
        left = dict(other["model"].named_parameters())  # type: ignore[attr-defined]
        sent = {name: g for name, g in whole.items() if left[name].requires_grad}
        library.save_update(later, update=sent, batch_size=1, **other)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=says):
            read(saved, later)


def frozen(net: nn.Sequential, *layers: str) -> nn.Sequential:
    for layer in layers:
        net.get_submodule(layer).requires_grad_(False)
    return net


def test_what_is_frozen_is_not_sent_and_not_matched(privsweep: Privsweep, tmp_path: Path) -> None:
    """The first layer alone gives an image away."""
    net, (pixels, labels) = frozen(network(), "output"), images(1)
    nn.functional.cross_entropy(net(pixels[0]), labels[0]).backward()
    library.save_update("u.safetensors", net, batch_size=1, originals=pixels)
    assert read(Path("u.safetensors")).delta.keys() == {"fc1.weight", "fc1.bias"}
    assert privsweep(*GIVEN, "fl_setting.path=u.safetensors", "attack=dlg", "scale=quick", tiny=False) == 0
    [path] = tmp_path.glob("outputs/runs/*/record.json")
    assert json.loads(path.read_text())["metrics"]["recovered"] == 1


@pytest.mark.parametrize(
    ("layer", "attack", "says"),
    [
        ("output", ["attack=idlg", "attack.labels=analytic"], "the update has no output.bias to read labels off"),
        ("fc1", ["attack=analytic"], "the update has no fc1.weight, fc1.bias; take attack=iga"),
    ],
)
def test_attacks_that_need_what_was_not_sent_are_refused(
    layer: str, attack: list[str], says: str, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    net, (pixels, labels) = frozen(network(), layer), images(1)
    sent = torch.autograd.grad(
        nn.functional.cross_entropy(net(pixels[0]), labels[0]), [p for p in net.parameters() if p.requires_grad]
    )
    library.save_update("u.safetensors", net, sent, batch_size=1)
    assert privsweep(*GIVEN, "fl_setting.path=u.safetensors", *attack, tiny=False) == 2
    assert says in capsys.readouterr().err


def test_buffers_that_are_left_out_are_those_of_a_new_network(tmp_path: Path) -> None:
    def norm() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

    net, (pixels, labels) = norm(), images(1, 4)
    path = library.save_update(tmp_path / "n.safetensors", net, gradients(net, pixels, labels), batch_size=4)
    tensors = {name: t for name, t in load_file(path).items() if "running" not in name}
    save_file(tensors, path, {"batch_size": "4"})
    assert "1.running_mean" not in read(path, net=norm()).weights


Change = Callable[[dict[str, Tensor], dict[str, str]], Any]
FAULTS: list[tuple[str, Change, str]] = [
    ("no note", lambda t, m: m.clear(), "its metadata have no batch_size"),
    ("batch", lambda t, m: m.update(batch_size="0"), "its metadata say batch_size=0: input should be greater"),
    ("text", lambda t, m: m.update(batch_size="four"), "batch_size=four: input should be a valid integer"),
    ("rule", lambda t, m: m.update(optimizer="lion"), "optimizer=lion: input should be 'sgd' or 'adam'"),
    ("images", lambda t, m: m.update(batch_size="2"), "labels are 3x1, and 3 victims with batch_size=2"),
    ("lost", lambda t, m: t.pop("weights.fc1.bias"), r"has no weights\.fc1\.bias"),
    ("wrapped", lambda t, m: t.update({"weights.module.fc1.bias": t.pop("weights.fc1.bias")}), "as wrappers such as"),
    ("strange", lambda t, m: t.update({"gradient.fc9": torch.zeros(3)}), r"has gradient\.fc9, which the network"),
    ("foreign", lambda t, m: t.update(foo=torch.zeros(3)), "has foo, which belongs to no part of an update"),
    ("shape", lambda t, m: t.update({"gradient.fc1.bias": torch.zeros(3, 9)}), "is 9 there and 64 in the network"),
    ("victims", lambda t, m: t.update({"gradient.fc1.bias": torch.zeros(2, 64)}), "2x64 there and 64"),
    ("integers", lambda t, m: t.update({"gradient.fc1.bias": torch.zeros(3, 64).long()}), "is int64, in the network"),
    ("nan", lambda t, m: t["gradient.fc1.bias"][1].fill_(torch.nan), r"gradient\.fc1\.bias of victim 1 has values"),
    ("inf", lambda t, m: t["weights.fc1.bias"].fill_(torch.inf), r"weights\.fc1\.bias has values that are no finite"),
    ("both", lambda t, m: t.update({"difference.fc1.bias": torch.zeros(64)}), "has both gradient"),
    ("neither", lambda t, m: [t.pop(n) for n in list(t) if n.startswith("grad")], "has neither gradient"),
    ("class", lambda t, m: t["labels"].fill_(10), "labels have 10, and there are 10 classes"),
    ("below", lambda t, m: t["labels"].fill_(-1), "labels have -1"),
    ("floats", lambda t, m: t.update(labels=torch.zeros(3, 1)), "labels are float32; store class numbers"),
    ("bytes", lambda t, m: t["originals"].mul_(255), "originals leave the range from 0 to 1"),
    ("side", lambda t, m: t.update(originals=torch.zeros(3, 1, 1, 4, 4)), "originals are 3x1x1x4x4"),
    ("rate", lambda t, m: t.update({n.replace("gradient", "difference"): t.pop(n) for n in list(t)}), "no lr"),
]


@pytest.mark.parametrize(("change", "says"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_what_is_wrong_with_a_file_is_one_line(change: Change, says: str, saved: Path) -> None:
    tensors = load_file(saved)
    with safe_open(saved, "pt") as file:
        notes = dict(file.metadata())
    change(tensors, notes)
    save_file(tensors, saved, notes)
    with pytest.raises(UserError, match=says) as error:
        read(saved)
    assert str(error.value).startswith(f"{saved}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80" * 100], ids=["empty", "text", "noise"])
def test_a_file_of_another_kind_is_one_line(content: bytes, saved: Path) -> None:
    saved.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        read(saved)


REFUSED = [
    (["fl_setting.path=nowhere"], "no such file, nor a folder with any"),
    (["fl_setting.victims=4"], "fl_setting.victims=4: u.safetensors has 3; take fewer, or null"),
    (["model.width=8"], "there and 8 in the network"),
    (["defense=[dp_sgd]"], "has done so before the capture; leave it out"),
    (["dataset.std=[0.5]"], "dataset.mean=null: inputs are standardised by a mean and a std"),
    (["attack=generative_decoder"], "observes activations, fl_setting=captured exposes update"),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=lambda x: x[0] if isinstance(x, list) else "")
def test_what_does_not_fit_is_refused(
    changes: list[str], says: str, saved: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {change.partition("=")[0] for change in changes}
    given = [g for g in [*GIVEN, "fl_setting.path=u.safetensors"] if g.partition("=")[0] not in changed]
    assert privsweep(*given, *changes, tiny=False) == 2
    assert says in capsys.readouterr().err.replace("\n", " ")


def test_an_update_of_a_network_with_other_names_is_refused(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    net, (pixels, labels) = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), images(1)
    library.save_update(tmp_path / "u.safetensors", net, gradients(net, pixels, labels), batch_size=1)
    assert privsweep(*GIVEN, "fl_setting.path=u.safetensors", tiny=False) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "fl_setting.path=u.safetensors: holds 1.bias, 1.weight, the model fc1.weight, fc1.bias" in said


def test_a_difference_under_adam_is_refused_at_once(saved: Path, privsweep: Privsweep, capsys: Any) -> None:
    tensors = {name.replace("gradient.", "difference."): t for name, t in load_file(saved).items()}
    save_file(tensors, saved, {"batch_size": "1", "lr": "0.1", "local_steps": "2", "optimizer": "adam"})
    assert privsweep(*GIVEN, "fl_setting.path=u.safetensors", "attack=dlg", tiny=False) == 2
    assert "its difference under adam is not a multiple of a gradient" in capsys.readouterr().err


def test_images_that_nobody_has_train_nothing(privsweep: Privsweep, capsys: Any) -> None:
    assert privsweep("dataset=unseen", "dataset.shape=[1,8,8]", "dataset.classes=10", tiny=False) == 2
    assert "dataset=unseen: has no images to train on; take fl_setting=captured" in capsys.readouterr().err


def test_a_save_that_is_not_right_writes_nothing(tmp_path: Path) -> None:
    net, (pixels, labels) = network(), images(1)
    sent = gradients(net, pixels, labels)
    faults: list[tuple[str, dict[str, Any]]] = [
        ("fc1.weight, fc1.bias, output.weight, output.bias: no gradient is given", {"update": None}),
        ("3 tensors for 4 parameters", {"update": list(sent.values())[:3]}),
        ("its metadata have no lr", {"update": sent, "what": "difference"}),
        ("originals leave the range", {"update": sent, "originals": pixels * 255}),
        ("is 64x9 there and 64x64", {"update": {**sent, "fc1.weight": torch.zeros(64, 9)}}),
    ]
    faults += [
        (f"{name}=.*: is no tensor; give one", {"update": sent, name: ["a"]}) for name in ("labels", "originals")
    ]
    for says, given in faults:
        with pytest.raises(UserError, match=says):
            library.save_update(tmp_path / "x.safetensors", net, batch_size=1, **given)
    with pytest.raises(UserError, match=r"the file of an update ends with \.safetensors"):
        library.save_update(tmp_path / "x.pt", net, sent, batch_size=1)
    assert not list(tmp_path.iterdir())


def test_statistics_that_were_sent_along_are_read_and_others_refused(tmp_path: Path) -> None:
    def norm() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

    def save(name: str, statistics: dict[str, Tensor] | None, victims: int = 1) -> Path:
        net, (pixels, labels) = norm(), images(victims, 4)
        sent = gradients(norm(), pixels, labels)
        return library.save_update(tmp_path / name, net, sent, batch_size=4, statistics=statistics)

    left = [norm() for _ in range(2)]
    for net, pixels in zip(left, images(2, 4)[0], strict=True):
        net(pixels)
    each = [dict(net.named_buffers()) for net in left]
    alone = read(save("one.safetensors", each[0]), net=norm())
    assert torch.equal(alone.statistics["1.running_var"], each[0]["1.running_var"][None])
    both = {name: torch.stack([own[name] for own in each]) for name in each[0]}
    two = read(save("two.safetensors", both, victims=2), save("three.safetensors", both, victims=2), net=norm())
    assert torch.equal(two.statistics["1.running_mean"], torch.cat([both["1.running_mean"]] * 2))
    silent = save("four.safetensors", None, victims=2)
    with pytest.raises(UserError, match="holds statistics of other buffers than two"):
        read(tmp_path / "two.safetensors", silent, net=norm())
    with pytest.raises(UserError, match=r"has statistics\.2\.bias, which the network has not"):
        save("five.safetensors", {"2.bias": torch.zeros(10)})
    with pytest.raises(UserError, match=r"statistics\.1\.running_var is 9 there and 1x64 in the network"):
        save("six.safetensors", {"1.running_var": torch.ones(9)})


def test_local_steps_in_batches_are_noted(tmp_path: Path) -> None:
    net, (pixels, labels) = network(), images(1, 4)
    sent = {name: -0.5 * g[0] for name, g in gradients(net, pixels, labels).items()}
    given = {"what": "difference", "batch_size": 4, "lr": 0.5, "local_steps": 2}
    told = library.save_update(tmp_path / "a.safetensors", net, sent, **given, local_batch_size=2)  # type: ignore[arg-type]
    silent = library.save_update(tmp_path / "b.safetensors", net, sent, **given)  # type: ignore[arg-type]
    assert [recipe(read(path).notes).batch_size for path in (told, silent)] == [2, 4]
    own = [*GIVEN, "attack=dlg", "attack.unrolled=true", "scale=smoke", f"output_dir={tmp_path}/o"]
    record = library.execute(library.compose(*own, f"fl_setting.path={told}"))
    assert record["metrics"]["diverged"] == 0
    gradient = library.save_update(tmp_path / "c.safetensors", net, gradients(net, pixels, labels), batch_size=4)
    with pytest.raises(UserError, match=r"attack\.unrolled=true: no local steps are behind a gradient"):
        library.execute(library.compose(*own, f"fl_setting.path={gradient}"))
