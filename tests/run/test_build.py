from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import FITTING, Bench

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.run.build import Made, build
from privsweep.run.compose import compose, searching
from privsweep.run.run import run, train
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_with_data

BASE = ["dataset.train_size=60", "dataset.test_size=20", "model.width=3", "attack=blind", "scale=smoke"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


def made(*overrides: str) -> RunSpec:
    return build(compose([*BASE, *overrides]))


def test_runs_of_a_plan_share_components_that_are_alike() -> None:
    known = Made()
    one, other = (build(compose([*BASE, own]), made=known) for own in ("attack.guess=grey", "attack.guess=noise"))
    assert one.dataset is other.dataset
    assert (one.attack.guess, other.attack.guess) == ("grey", "noise")


# Everything that must not change the trained system, and some of what must.
EXPOSURE = [
    ["fl_setting.victims=3"],
    ["fl_setting.position=client"],
    ["fl_setting.capture.round=last"],
    ["fl_setting.capture.client=2", "fl_setting.capture.batch_size=2", "fl_setting.capture.mode=eval"],
    ["fl_setting.capture.what=difference"],
    ["fl_setting.capture.step=1"],
    ["attack=none"],
    ["attack.guess=grey"],
    ["metrics.asr_threshold=0.5", "metrics.paper_scale=precode"],
    ["output_dir=elsewhere", "data_dir=elsewhere", "force=true"],
]
TRAINING = [
    ["seed=1"],
    ["model.width=4"],
    ["fl_setting.clients=2"],
    ["fl_setting.lr=0.02"],
    ["fl_setting.rounds=2"],
    ["dataset.train_size=50"],
    ["defense=[noisy_gradients]"],
    ["fl_setting=fedsgd"],
]


@pytest.mark.parametrize("changes", EXPOSURE, ids=" ".join)
def test_what_only_steers_exposure_or_attack_shares_the_trained_system(changes: list[str], data: Data) -> None:
    """Equal keys, and equal weights from what the key names: the cache cannot serve a wrong system."""
    plain, changed = made(), made(*changes)
    assert plain.training_key(CPU) == changed.training_key(CPU)
    first, second = (train(e, data, Rng(0), Bench()) for e in (plain, changed))  # type: ignore[arg-type]
    for done, weights in first.snapshots.items():
        assert all(torch.equal(w, second.snapshots[done][n]) for n, w in weights.items())


@pytest.mark.parametrize("changes", TRAINING, ids=" ".join)
def test_what_steers_training_has_a_system_of_its_own(changes: list[str]) -> None:
    assert made().training_key(CPU) != made(*changes).training_key(CPU)


def test_the_signature_ignores_places_and_nothing_else() -> None:
    plain = made().signature
    for same in (["output_dir=x", "data_dir=y"], ["force=true", "threads=1", "device=cpu"]):
        assert made(*same).signature == plain
    others = {made(*c).signature for c in [*TRAINING, *EXPOSURE[:-1]]}
    assert len(others) == len(TRAINING) + len(EXPOSURE) - 1
    assert plain not in others


def test_the_scale_counts_by_the_amounts_it_sets() -> None:
    amounts = ["fl_setting.rounds=1", "fl_setting.local_epochs=1"]
    assert made(*amounts).signature == made(*amounts, "scale=paper").signature
    assert made().signature != made("scale=paper").signature


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["modle.width=3"], ["modle.width", "no such key"]),
        (["model.widht=3"], ["model.widht", "model.width"]),
        (["model=torchvision", "model.width=3"], ["model=alexnet, ", "have it, model=torchvision has not"]),
        (["model=lenett"], ["model=lenett", "did you mean lenet"]),
        (["model.width=none"], ["model.width=none", "integer"]),
        (["model.width=0"], ["model.width=0", "greater than"]),
        (["fl_setting.capture.batch_size=0"], ["fl_setting.capture.batch_size=0"]),
        (["fl_setting.capture.what=weights"], ["fl_setting.capture.what=weights", "difference"]),
        (["fl_setting=central", "fl_setting.capture.client=1"], ["fl_setting.capture.client=1"]),
        (["fl_setting=fedsgd", "fl_setting.capture.what=difference"], ["fl_setting.capture.what=difference"]),
        (["+model.colour=red"], ["model.colour", "no such key"]),
        (["dataset@prior=digits"], ["dataset@prior=digits", "attack=blind"]),
        (["dataset.canaries=4"], ["dataset.canaries=4", "attack=blind", "attack=loss_threshold"]),
        (
            ["attack=informed_reconstruction", "fl_setting=release", "fl_setting.canaries=true", "model=informed_mlp"],
            ["fl_setting.canaries=true", "take attack=informed_membership"],
        ),
        (["scale=huge"], ["scale=huge", "quick"]),
        (["device=tpu"], ["device=tpu", "cuda"]),
        (["seed=-1"], ["seed=-1"]),
        (["attack=dlg", "attack.loss=victim"], ["attack.loss=victim", "take attack.loss=cross_entropy"]),
        (["attack=dlg", "attack.loss=victim", "defense=[dp_sgd]"], ["attack.loss=victim", "defense=[precode]"]),
        (["defense.noisy_gradients.sigma=1"], ["defense.noisy_gradients"]),
        (["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=-1"], ["defense.noisy_gradients.sigma=-1"]),
    ],
    ids=lambda x: " ".join(x),
)
def test_bad_input_is_one_line_with_key_and_remedy(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        made(*overrides)
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def test_the_victims_own_images_are_no_prior_by_another_name(npz: Callable[..., Path]) -> None:
    """They passed, and members served attacks as public records, none of which is one."""
    path = npz(name="fashion_mnist")
    folder, asked = f"data_dir={path.parent}", "attack=loss_threshold"
    for own in (["dataset=fashion_mnist", "dataset@prior=npz", f"prior.path={path}"],
                ["dataset=npz", f"dataset.path={path}", "dataset@prior=fashion_mnist"]):  # fmt: skip
        with pytest.raises(UserError, match="the victims' own dataset"):
            build(compose([*(o for o in BASE if o.startswith("model")), folder, *own, asked, "model=smlp"]))


def test_an_adversarys_own_data_have_no_canaries(npz: Callable[..., Path]) -> None:
    prior = ["attack=prior_mean", "dataset@prior=npz", f"prior.path={npz()}", "prior.canaries=4"]
    with pytest.raises(UserError, match=r"^prior.canaries=4: nobody .*; take 0[^\n]*$"):
        made(*prior)


def test_the_victims_loss_is_matched_where_a_defence_adds_to_it() -> None:
    assert made("attack=dlg", "attack.loss=victim", "defense=[noisy_gradients,precode]").attack.threat.adaptive


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        made("model.width=0", "fl_setting.clients=x", "attack.guess=well")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(UserError, match="device=cuda: 0 CUDA devices"):
        made("device=cuda")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=vgg16"], "dataset.resize=32"),
        (["fl_setting.clients=70"], "fl_setting.clients=70"),
        (["model=resnet18", "model.width=4"], "model.norm=group"),
        (["model=resnet18", "model.width=4", "model.norm=group"], "model=resnet18: its group normalisation"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_training(overrides: list[str], words: str, data: Data) -> None:
    with pytest.raises(UserError, match=words):
        check_with_data(made(*overrides), data, None, Rng(0))


def test_a_captured_message_whose_epsilon_is_not_found_is_refused_before_training(data: Data) -> None:
    """The training's is, for it samples more thinly."""
    little = ["accountant=gdp", "epsilon=null", "noise_multiplier=0.35"]
    captured = [
        "fl_setting.batch_size=1",
        "fl_setting.optimizer=sgd",
        "fl_setting.capture.what=difference",
        "fl_setting.capture.batch_size=2",
    ]
    spec = made("attack=dlg", *captured, "defense=[dp_sgd]", *(f"defense.dp_sgd.{v}" for v in little))
    spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    with pytest.raises(UserError, match="accountant=gdp finds no epsilon"):
        check_with_data(spec, data, None, Rng(0))


def test_the_order_of_defences_is_the_order_given() -> None:
    assert list(made("defense=[noisy_gradients]").defense.defenses) == ["noisy_gradients"]
    assert made().choices["defense"] == []


def test_attacks_that_differ_in_their_judgement_share_what_they_prepare(tmp_path: Path) -> None:
    """LiRA and RMIA train the same shadows; a decoder or another number of shadows is made anew."""
    given = ["dataset.prior_size=100", "fl_setting.candidates=20", "attack.shadows=12", "attack.epochs=1"]
    made_ = [("lira_online", []), ("lira_online", ["attack.estimate=record"]), ("rmia", ["attack.memory=1.0"])]
    for name, more in [*made_, ("lira_online", ["attack.lr=0.5"])]:
        run(made(f"attack={name}", *given, *more, f"output_dir={tmp_path}"))
    assert len(list((tmp_path / "prepared").glob("*.safetensors"))) == 2


def test_whoever_gives_shadows_less_memory_takes_over_those_that_are_stored(tmp_path: Path) -> None:
    given = [*FITTING["informed_reconstruction"], "fl_setting.victims=2", "attack.epochs=1", f"output_dir={tmp_path}"]
    for own in (["fl_setting.memory=1"], ["fl_setting.memory=0.5", "attack.lr=0.1"]):
        assert not run(made("attack=informed_reconstruction", *given, *own)).get("reused")
    assert len(list((tmp_path / "rows").iterdir())) == 1


@pytest.mark.parametrize("rounded", ["tf32", "bfloat16"])
def test_what_is_rounded_is_shared_with_nobody(rounded: str, tmp_path: Path) -> None:
    given = ["attack=lira_online", "dataset.prior_size=100", "fl_setting.candidates=20", "attack.shadows=2"]
    for precision in (rounded, "float32", rounded):
        record = run(made(*given, "attack.epochs=1", f"precision={precision}", f"output_dir={tmp_path}"))
        assert record["config"].get("precision", "float32") == precision
        assert record["environment"]["precision"] == ("bfloat16" if precision == "bfloat16" else "float32")
    assert record["reused"]
    for kind in ("runs", "systems", "prepared"):
        assert len(list((tmp_path / kind).iterdir())) == 2


def test_no_run_computes_in_reduced_precision(tmp_path: Path) -> None:
    torch.backends.cudnn.allow_tf32 = True
    assert run(made(f"output_dir={tmp_path}"))["environment"]["precision"] == "float32"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
