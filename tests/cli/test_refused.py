"""Broken invocations: one line that names key, value and remedy, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from broken_world import broken_world
from tiny import TINY

from privsweep.cli import main as cli
from privsweep.interface.errors import UserError
from privsweep.run.logging_settings import check_logging

LONG = "x" * 300
# What is typed, and words of the line that answers it.
TYPED = {
    # groups
    "attack=null": "attack=null: is no choice",
    "dataset=null": "choose one of: celeba_hq",
    "model=null": "model=null",
    "fl_setting=null": "fl_setting=null",
    "defense=null": "defense=null",
    "experiment=null": "leave it out",
    "dataset@prior=null": "~dataset@prior takes it away",
    "defense=3": "defense=3: no such choice",
    "attack=true": "attack=true: no such choice",
    "attack=1.5": "attack=1.5",
    "attack=[dlg]": "attack=[dlg]: takes one choice",
    "attack={a: 1}": "set single values as attack.key=value",
    "model=''": "model=",
    "attack=dgl": "did you mean dlg?",
    "attack=../x": "no such choice",
    "defense=[null]": "defense=null: no such choice",
    "defense=[3]": "defense=3: no such choice",
    "defense=[[dp_sgd]]": "no such choice",
    "defense=[dp_sgd,dp_sgd]": "names dp_sgd twice",
    "defense.dp_sgd.epsilon=1": "defense.dp_sgd.epsilon: no such key",
    "+defense.foo=3": "defense.foo=3: names no class",
    "+defense.dp_sgd={delta: 1}": "defense.dp_sgd={'delta': 1}: names no class",
    "++attack=dlg": "++attack=dlg",
    # keys
    "~seed": "~seed: cannot be taken away",
    "~metrics": "~metrics",
    "~attack": "~attack: cannot be taken away",
    "~hydra.run": "~hydra.run",
    "~attack.lr": "attack.lr: has no value; set it",
    "=3": "=3: names no key",
    "seed": "seed: cannot be read; write seed=value",
    "seed:3": "seed:3: cannot be read",
    "'seed = 3'": "without blanks",
    "'seed={'": "in quotes",
    "'attack=a\"b'": "in quotes",
    "+foo=3": "foo is no key of privsweep",
    "+foo.bar=3": "foo is no key of privsweep",
    "+sede=3": "did you mean seed?",
    "modle.width=3": "modle.width: no such key",
    "+model.colour=red": "model.colour: no such key",
    "+attack._args_=[1]": "attack._args_: is not used here",
    "attack._target_=os.system": "PRIVSWEEP_TRUST",
    "'attack.lr=${y}'": "'y' not found",
    "'attack.lr=${attack.lr}'": "Recursive",
    "'seed=${oc.env:HOME}'": "reads no environment",
    "'seed=${at_scale:1}'": "${at_scale:...}: takes amounts",
    "metrics=null": "metrics=null: must be keys with values",
    "metrics=3": "metrics=3",
    "+table=3": "table=3: must be keys with values",
    "+figure=3": "figure=3",
    "only=3": "only=3",
    "cell=a": "cell: is set by privsweep itself",
    "hydra.searchpath=[pkg://evil]": "--config-dir",
    # sweeps
    "seed=0,1": "add -m",
    "'seed=range(0,3)'": "privsweep -m 'seed=range(0,3)'",
    "-m 'seed=range(0,0)'": "has no value to sweep over",
    "-m 'seed=range(0,10,0)'": "cannot be swept",
    "-m 'seed=range(0,1000000000)'": "more than 10,000 runs",
    "-m 'seed=interval(0,1)'": "cannot be swept",
    "-m 'attack=glob(nosuch*)'": "has no value to sweep over",
    "-m seed=0,1 seed=2,3": "swept twice",
    "-m attack=dlg,null": "attack=null: is no choice",
    "-m seed=0,1 hydra.sweeper.max_batch_size=0": "hydra.sweeper.max_batch_size=0",
    "-m seed=0,1 hydra.sweeper=null": "hydra.sweeper=null",
    "-m seed=0,1 hydra.sweep.dir=file": "hydra.sweep.dir=file",
    "-m seed=0,1 hydra.sweep.dir=/proc/x": "hydra.sweep.dir=/proc/x",
    f"-m seed=0,1 hydra.sweep.subdir={LONG}": "hydra.sweep.subdir=",
    "-m seed=0,1 fl_setting.victims=50": "fl_setting.victims=50",
    # values
    "attack.lr=1e300": "single precision",
    "device=tpu": "choose auto, cpu, cuda",
    "scale=3": "scale=3: choose one of paper",
    "model.weights=3": "model.weights=3",
    # what the data tell
    "fl_setting.victims=50": "fl_setting.victims=50",
    "fl_setting.capture.step=1000000": "takes 1 steps in a round; take 1 or less",
    "fl_setting.capture.client=99": "fl_setting.capture.client=99",
    "fl_setting.clients=1000000000": "fl_setting.clients=1000000000",
    "dataset.resize=100000": "and this machine has",
    "model.width=1000000000": "more parameters than can be counted",
    "model.width=300000": "take smaller widths",
    "defense=[precode] defense.precode.k=1000000000": "parameters",
    # folders
    "output_dir=file": "output_dir=file: cannot be written",
    "output_dir=file/x": "output_dir=file/x: cannot be written",
    "output_dir=/dev/null": "output_dir=/dev/null",
    "output_dir=/proc/x": "output_dir=/proc/x",
    f"output_dir={LONG}": "(300 characters): must name a folder",
    "output_dir=null": "output_dir=null",
    "data_dir=[a]": "data_dir=['a']",
    "hydra.run.dir=file": "hydra.run.dir=file: cannot be written",
    "hydra.run.dir=/proc/x": "hydra.run.dir=/proc/x",
    f"hydra.run.dir={LONG}": "hydra.run.dir=",
    "hydra.job_logging.handlers.file.filename=/proc/x": "handlers.file.filename",
    "--config-dir file": "--config-dir=file: no such folder",
    "--config-dir ''": "--config-dir=: no such folder",
    # Hydra's part
    "hydra=3": "hydra=3",
    "hydra.run=3": "hydra.run=3",
    "+hydra.nosuch=3": "hydra.nosuch: no such key",
    "hydra.launcher=3": "hydra.launcher=3: must be keys with values",
    "hydra.mode=MULTIRUN": "hydra.mode",
    "hydra.runtime.cwd=/x": "Hydra's own note",
    "hydra.job.name=a/b": "hydra.job.name=a/b",
    "hydra.verbose=3": "hydra.verbose=3",
    "+hydra.callbacks.x=3": "hydra.callbacks.x=3",
    "'hydra.job_logging.formatters.simple.format=\"%(x\"'": "hydra.job_logging: cannot be set up",
    # flags
    "--run -m": "--run",
    "--nosuch": "--nosuch",
    "--cfg nosuch": "invalid choice: 'nosuch'",
    "--cfg job --package nosuch": "--package=nosuch: no such part",
    "--cfg job --resolve '+seed2=${y}'": "seed2",
    "--cfg job attack=null": "attack=null: is no choice",
    "-sc query=x": "No completion plugin for 'x'",
    "--info nosuch": "invalid choice: 'nosuch'",
    "--experimental-rerun x": "unpickle",
    "--resolve": "add --cfg job",
}
# Of these all are told at once, one line for each, so a few invocations try them all.
VALUES = [
    {
        "attack.lr=inf": "input should be a finite number",
        "attack.memory=inf": "input should be a finite number",
        "attack.iterations=1e9": "input should be less than or equal to 10000000",
        "attack.restarts=1000000000": "input should be less than or equal to 10000",
        "fl_setting.lr=inf": "input should be a finite number",
        "fl_setting.dirichlet_alpha=inf": "input should be a finite number",
        "fl_setting.released=first": "input should be a valid integer, unable to parse string as an integer, or input "
        "should be 'last'",
        "fl_setting.capture.what=x": "input should be 'gradient' or 'difference'",
        "fl_setting.capture.round=first": "or input should be 'last'",
        "fl_setting.rounds=1000000000": "input should be less than or equal to 10000000",
        "fl_setting.momentum=1": "input should be less than 1",
        "fl_setting.checkpoints=3": "input should be a valid list",
        "threads=100000": "input should be less than or equal to 1024",
        "seed=-1": "input should be greater than or equal to 0",
        "plan=3": "input should be a valid boolean",
        "precision=half": "input should be 'float32' or 'tf32'",
        "model.norm=foo": "input should be 'batch' or 'group', or input should be 'none'",
        "model.depth=1000000": "input should be less than or equal to 1000",
        "model.init_bound=inf": "input should be a finite number",
        "dataset.channels=cmyk": "input should be 'same', 'grey' or 'rgb'",
        "defense.noisy_gradients.sigma=inf": "input should be a finite number",
        "metrics.asr_threshold=null": "input should be a valid number",
    },
    {
        "attack.lr=nan": "input should be greater than 0",
        "fl_setting.dirichlet_alpha=1e+300": "single precision ends at 1e-37 and 1e+38",
        "fl_setting.capture=3": "input should be a dictionary",
        "seed=1e+30": "exceeded maximum size",
        "threads=0": "input should be greater than or equal to 1",
        "force=null": "input should be a valid boolean",
        "model.layers=[]": "tuple should have at least 1 item",
        "dataset.train_size=1000000000000": "beyond all that can be computed here",
        "defense.noisy_gradients.sigma=x": "input should be a valid number",
        "metrics.paper_scale=none": "input should be 'zen' or 'precode'",
    },
    {"model.layers=[0]": "", "fl_setting.capture.step=-1": "greater than or equal to 0", "seed=null": "valid integer"},
]
LOGGING = {
    "handlers": (None, 3, {"file": None}, {"file": {"filename": None}}, {"file": {"level": "FOO"}}),
    "formatters": (3, {"simple": 3}, {"simple": {"style": "{"}}),
    "root": (3, {"level": "FOO"}, {"handlers": ["x"]}, {"handlers": "file"}),
    "version": (3,),
    "filters": ({},),
}
FILES = {
    **{
        f"--config-dir conf {group}={name}": f"{group}={name}: "
        for group in ("attack", "experiment")
        for name in [
            "broken",
            "binary",
            "listed",
            "words",
            "number",
            "tagged",
            "foreign",
            "twice",
            "circle",
            "bomb",
            "nul",
            "utf16",
        ]
    },
    "--config-dir conf attack=empty": "attack={}: names no class under _target_",
    "--config-dir conf attack=untargeted": "names no class under _target_",
    "--config-dir conf defense=[empty]": "# @package defense.empty",
    "--config-dir conf defense=[untargeted]": "# @package defense",
    "--config-dir conf defense=[listed]": "defense=listed: ",
    "--config-dir conf experiment=table_listed": "table=[1, 2]: must be keys with values",
    "--config-dir conf experiment=table_words": "table=words",
    "--config-dir conf experiment=figure_words": "figure=words",
    "--config-dir conf experiment=defaults_mapped": "experiment=defaults_mapped: ",
    "--config-dir conf experiment=defaults_number": "experiment=defaults_number: ",
    "--config-dir conf experiment=defaults_nothing": "attack=nosuch: no such choice",
    "--config-dir conf experiment=searching": "hydra.searchpath",
    "--config-dir conf experiment=cell_null": "attack=null: is no choice",
    "--config-dir conf experiment=cell_brackets": "attack=[}: cannot be read",
    "--config-dir conf experiment=good only=[]": "only=[]: must be a list",
    "--config-dir conf experiment=good only=3": "only=3: must be a list",
    "--config-dir conf experiment=good only=[b]": "only=b: give a list of columns, of a",
    "--config-dir conf experiment=good table=3": "table=3",
    "--config-dir conf experiment=good -m fl_setting.clients=2,3": "a table is a sweep already",
    **{
        f"dataset=npz dataset.path={name}.npz": f"dataset.path={name}.npz: cannot be read as .npz"
        for name in [
            "encrypted",
            "compressed_strangely",
            "no_array",
            "claims_909_tib",
            "claims_16_gib",
            "pickled",
            "cut_off",
            "empty",
        ]
    },
    "dataset=npz dataset.path=no_members.npz": "train_images, train_labels, test_images, test_labels missing",
    "dataset=npz dataset.path=pipe.npz": "no such file",
    "dataset=npz dataset.path=dangling.npz": "no such file",
    f"dataset=npz dataset.path={LONG}": "File name too long",
    "dataset=npz": "dataset.path: Missing mandatory value",
    f"dataset=mnist dataset.name={'x' * 5000}": "(5,000 characters): string should have at most 100 characters",
    "dataset=mnist dataset.name=../x": "dataset.name=../x",
    f"dataset=mnist data_dir={LONG}": "data_dir=",
    "dataset=folder dataset.path=file": "no such folder",
    "dataset=folder dataset.path=images dataset.resize=100000": "and this machine has",
    "dataset=folder dataset.path=images_dangling": "a/z.png is a link that leads to no file",
    "dataset=folder dataset.path=images_circle": "a/z.png is a link that leads to no file",
    "dataset=folder dataset.path=images_pipe": "a/z.png is no file",
    "dataset=folder dataset.path=images_huge": "more pixels than Pillow decodes",
    "dataset=folder dataset.path=images_line_break": "a/x y.png is no readable image",
    "dataset=folder dataset.path=images_escape": r"a/x\x1b[31my.png is no readable image",
    "model.weights=weights.safetensors": "cannot be read as safetensors",
    "model.weights=pipe.npz": "no such file",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broken_world(tmp_path_factory.mktemp("broken"))


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A command that waits for something is interrupted."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise AssertionError("still not refused")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("typed", [*TYPED, *FILES], ids=lambda typed: typed[:60])
def test_a_broken_invocation_is_refused_in_one_line_and_writes_nothing(
    typed: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = {path: path.lstat().st_mtime_ns for path in world.rglob("*")}
    words = [typed] if typed.startswith(("attack={", "+defense.dp_sgd={")) else shlex.split(typed)
    given = {word.partition("=")[0] for word in words}
    flags = {"--cfg", "-sc", "--info"} & given
    own = [a for a in TINY if not flags and a.partition("=")[0] not in given and "dataset=folder" not in words]
    assert cli.main([*words, *own]) == cli.REFUSED
    shown = capfd.readouterr()
    [line] = shown.err.splitlines()
    assert line.startswith("privsweep: ")
    assert {**TYPED, **FILES}[typed] in line
    assert shown.out == ""
    assert {path: path.lstat().st_mtime_ns for path in world.rglob("*")} == before


@pytest.mark.parametrize("values", VALUES, ids=len)
def test_wrong_values_are_told_all_at_once(
    values: dict[str, str], world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    assert cli.main(["defense=[noisy_gradients]", "attack=iga", *values]) == cli.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(values)
    for typed, words in values.items():
        key, _, value = typed.partition("=")
        path, shown = (f"{key}.0", value.strip("[]")) if value == "[0]" else (key, value)
        [line] = [line for line in lines if line.startswith(f"privsweep: {path}=")]
        assert words in line.partition(shown)[2]
    assert not (world / "outputs").exists()


@pytest.mark.parametrize(("section", "value"), [(name, value) for name, values in LOGGING.items() for value in values])
def test_logging_that_python_would_not_take_is_refused(section: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        check_logging("hydra.job_logging", {section: value})
    assert str(caught.value).startswith(f"hydra.job_logging.{section}")


def test_the_table_has_at_least_a_hundred_rows() -> None:
    assert len(TYPED) + len(FILES) + sum(map(len, VALUES)) >= 100
