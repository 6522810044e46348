"""What ``gpu_check.py`` does: each step returns rows of a table, and what in them is wrong."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import privsweep
import torch

from gpu_runs import AGREEING, LOOPS, TINY

Row = dict[str, Any]
Record = Mapping[str, Any]

_TOLERANCE = 0.02
# Where noise is drawn on the device, which has a stream of its own, the CPU draws other numbers.
_OTHER_DRAWS = frozenset(
    {"iga_precode", "iga_aware", "iga_noise_samples", "analytic", "april", "dp_sgd", "central_dp", "noisy_training"}
    | {"precode_training", "shadow_inversion_ensembler"}
    | {"dropout_ensemble", "dropout_single", "random_head", "shredder", "single_noise"}
)


@dataclass
class Place:
    """Where, with what and how much."""

    device: str
    folder: Path
    data: str
    small: bool  # as little as shows that a step works
    found: list[str] = field(default_factory=list)  # what is wrong

    def run(self, *overrides: str) -> Record:
        """As typed; later overrides win."""
        given = {o.partition("=")[0]: o for o in ["verbose=false", *overrides]}
        given.setdefault("output_dir", f"output_dir={self.folder / 'runs'}")
        given.setdefault("device", f"device={self.device}")
        return privsweep.execute(privsweep.compose(*given.values()))

    def wrong(self, what: str) -> str:
        self.found.append(what)
        return "WRONG"


def environment(place: Place) -> Iterator[Row]:
    """What there is."""
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "none"
    memory = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB" if cuda else "-"
    yield {"torch": torch.__version__, "GPU": name, "memory": memory, "CPUs": os.cpu_count() or 0}


def agreement(place: Place) -> Iterator[Row]:
    """Every attack on the CPU, on the device kernel by kernel, and with recorded iterations."""
    for name in list(AGREEING)[:: 8 if place.small else 1]:
        yield {"attack": name, **_three_ways(place, name, [*TINY, *AGREEING[name]])}


def _three_ways(place: Place, name: str, own: Sequence[str]) -> Row:
    ways = {"cpu": "cpu", "eager": place.device, "again": place.device, "graphs": place.device}
    records: dict[str, Record] = {}
    for way, device in ways.items():
        folder, graphs = place.folder / "agreement" / way, str(way == "graphs").lower()
        try:
            records[way] = place.run(*own, f"device={device}", f"cuda_graphs={graphs}", f"output_dir={folder}")
        except Exception as error:
            return {way: place.wrong(f"{name}, {way}: {type(error).__name__}: {error}".splitlines()[0][:300])}
    across, metric = difference(records["cpu"], records["eager"])
    again, _ = difference(records["eager"], records["again"])
    recorded, metric_recorded = difference(records["eager"], records["graphs"])
    row: Row = {"CPU and device": across, "device, twice": again, "eager and recorded": recorded}
    off = too_far(across, again, recorded, name in _OTHER_DRAWS)
    if "device" in off:
        place.wrong(f"{name}: {metric} on the device differs by {across:.2g}")
    if "recorded" in off:
        place.wrong(f"{name}: {metric_recorded} differs by {recorded:.2g} when recorded")
    kernels = records["graphs"]["environment"].get("kernels", "-")
    if str(kernels).startswith("eager: "):
        place.wrong(f"{name}: {kernels}")
    return row | {"draws": "others" if name in _OTHER_DRAWS else "the same", "kernels": kernels, "wrong": " ".join(off)}


def too_far(across: float, again: float, recorded: float, other_draws: bool) -> list[str]:
    """Of "device" and "recorded", what differs by more than it may.

    A run that repeats itself to the last bit must do so when recorded. Where kernels add in any order, two runs say
    little of how far a third may be off, so that both are held to the tolerance, or to twice what those two differ by.
    """
    loose = max(_TOLERANCE, 2 * again)
    off = [] if other_draws or across <= loose else ["device"]
    return off if recorded <= (loose if again else 1e-4) else [*off, "recorded"]


def difference(first: Record, second: Record) -> tuple[float, str]:
    """The largest of a metric or of the utility, relative above 1, and which it is."""
    worst, which = 0.0, "nothing"
    for part in ("metrics", "utility"):
        for key, a in first[part].items():
            b = second[part].get(key)
            if a is None or b is None or "seconds" in key:
                if (a is None) != (b is None):
                    worst, which = math.inf, key
                continue
            if a == b or (math.isnan(a) and math.isnan(b)):
                continue
            off = abs(a - b) / max(1.0, abs(a))
            if not off <= worst:
                worst, which = off, key
    return worst, which


def synchronisations(place: Place) -> Iterator[Row]:
    """How often the host waits in an iteration or a step: the difference between a long run and a short one."""
    for name, (own, key, often, steps) in LOOPS.items():
        counts = [_waits(place, [*TINY, *own, f"{key}={n}"]) for n in (often, 2 * often)]
        each = (counts[1] - counts[0]) / (often * steps)
        row: Row = {"work": name, "host waits an iteration or step": f"{each:.3f}"}
        if each > 0.5:
            row["host waits an iteration or step"] += " " + place.wrong(f"{name}: {each:.1f} host waits each")
        yield row


def _waits(place: Place, own: Sequence[str]) -> int:
    if place.device == "cpu":
        return 0
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            place.run(*own, "force=true", "cuda_graphs=false")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in heard)


_DATA = ("dataset=digits", "dataset.resize=32", "dataset.channels=rgb", "scale=paper", "fl_setting=central")
_BIG = (*_DATA, "fl_setting.epochs=0", "fl_setting.labels_known=true")


def speed(place: Place) -> Iterator[Row]:
    """Recorded against kernel by kernel, in turns."""
    few = place.small
    victims, iterations, epochs = (2, 20, 1) if few else (128, 600, 6)
    attacked = [*_BIG, "attack=iga", f"attack.iterations={iterations}", f"fl_setting.victims={victims}"]
    trained = [*_DATA, "attack=none", "fl_setting.batch_size=16", f"fl_setting.epochs={epochs}"]
    cases: dict[str, tuple[list[str], str, int]] = {
        "IGA, LeNet": (attacked, "attack", victims * iterations),
        "IGA, LeNet, one victim": ([*attacked, "fl_setting.victims=1"], "attack", iterations),
        "IGA, DMLP": ([*attacked, "model=dmlp"], "attack", victims * iterations),
        "IGA, DMLP, noisy": ([*attacked, "model=dmlp", "defense=[noisy_gradients]"], "attack", victims * iterations),
        "IGA, LeNet, PRECODE": ([*attacked, "defense=[precode]"], "attack", victims * iterations),
        "DLG, LeNet": ([*_BIG, "attack=dlg", f"attack.iterations={iterations // 20}", f"fl_setting.victims={victims}"],
                       "attack", victims * (iterations // 20)),
        "training, LeNet": (trained, "train", 90 * epochs),
        "training, DMLP": ([*trained, "model=dmlp"], "train", 90 * epochs),
        "training, LeNet, noisy": ([*trained, "defense=[noisy_gradients]"], "train", 90 * epochs),
        "training, LeNet, PRECODE": ([*trained, "defense=[precode]"], "train", 90 * epochs),
        "training, three clients": (
            [*trained, "fl_setting=fedavg", f"fl_setting.rounds={epochs}", "fl_setting.local_epochs=1"], "train",
            90 * epochs,
        ),
    }  # fmt: skip
    for name, (own, part, work) in list(cases.items())[:: 4 if few else 1]:
        own = [o for o in own if not (o.startswith("fl_setting.epochs") and "fl_setting=fedavg" in own)]
        seconds: dict[str, list[float]] = {"false": [], "true": []}
        for turn in range(1 if few else 2):
            for graphs, kept in seconds.items():
                folder = place.folder / "speed" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{graphs}-{turn}"
                record = place.run(*own, f"cuda_graphs={graphs}", f"output_dir={folder}")
                kept.append(record["seconds"][part])
        eager, graphs = min(seconds["false"]), min(seconds["true"])
        yield {
            "work": name,
            "kernel by kernel, a second": f"{work / eager:,.0f}",
            "recorded, a second": f"{work / graphs:,.0f}",
            "ratio": f"{eager / graphs:.2f}",
        }


def memory(place: Place) -> Iterator[Row]:
    """Cost a victim and memory, by the number of victims; the stated limit is in force."""
    for model in ("lenet_dlg",) if place.small else ("lenet_dlg", "dmlp"):
        for victims in (1, 2) if place.small else (32, 128, 512, 1024):
            given = [*_BIG, "attack=iga", f"model={model}", f"fl_setting.victims={victims}"]
            record = place.run(*given, f"attack.iterations={10 if place.small else 300}")
            made, each = record["environment"], record["seconds"]["attack"] / victims / (10 if place.small else 300)
            yield {
                "model": model,
                "victims": victims,
                "ms a victim and 100 iterations": f"{1e5 * each:.1f}",
                "GiB": str(made["memory_gib"]),
                "chunks": str(made["chunks"]),
            }


def suite(place: Place) -> Iterator[Row]:
    """The tests, with as many workers as there are processors."""
    root = Path(__file__).parents[1]
    chosen = ["tests/minimisation"] if place.small else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *chosen]
    if not place.small:
        command += ["-n", str(os.cpu_count() or 1)]
    start = time.perf_counter()
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))  # with what is installed elsewhere
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    (place.folder / "suite.txt").write_text(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    for line in failed[:40]:
        place.wrong(line)
    if done.returncode and not failed:
        place.wrong(f"pytest ended with {done.returncode}: {last}")
    yield {"result": last, "seconds": f"{time.perf_counter() - start:.0f}"}


def table(place: Place) -> Iterator[Row]:
    """The attacks of PRECODE's Table 2 at the paper's scale, one seed; needs CIFAR-10."""
    if not (Path(place.data) / "cifar10.npz").is_file():
        yield {"table": "precode/table2", "result": f"left out: no cifar10.npz in {place.data}"}
        return
    from privsweep.cli import sweep

    scale = "smoke" if place.small else "paper"
    given = [f"scale={scale}", f"data_dir={place.data}", f"output_dir={place.folder / 'table'}", "table.seeds=[0]"]
    runs = [
        run for run in sweep.stored("precode/table2", [*given, f"device={place.device}"]).runs if "acc" not in run.name
    ]
    for run in runs[: 2 if place.small else None]:
        start = time.perf_counter()
        m = privsweep.execute(run.spec)["metrics"]
        if m:
            yield {
                "run": run.name,
                "SSIM": f"{m['ssim_paper']:.3f}",
                "PSNR": f"{m['psnr_paper']:.2f}",
                "success": f"{m['asr_paper']:.1%}",
                "seconds": f"{time.perf_counter() - start:.1f}",
            }


STEPS: Mapping[str, Callable[[Place], Iterator[Row]]] = {
    "environment": environment,
    "agreement": agreement,
    "synchronisations": synchronisations,
    "speed": speed,
    "memory": memory,
    "table": table,
    "suite": suite,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the runs' own warnings and bars."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
