"""C code beside this file, compiled for the processor at hand when it is first needed, and kept.

Where there is no C compiler, or what it makes does not answer as PyTorch does, PyTorch does the work.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

_TYPES = {torch.float32: ("float", "int32_t"), torch.float64: ("double", "int64_t")}
_FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_FOR_THIS_PROCESSOR = ("-march=native", "-mcpu=native")  # one of them, as compilers differ
_SHARED = "vectors.h"  # which the sources include
_PATIENCE = 120  # seconds
_OTHERS = stat.S_IWGRP | stat.S_IWOTH  # who may write besides its owner

Check = Callable[[torch.dtype], bool]


class RefusedError(Exception):
    """Why there is no compiled code."""


@dataclass
class Compiling:
    """Whether this process runs compiled code on a CPU, and what has become of it."""

    wanted: bool = True
    asked: bool = False
    refused: str = ""
    loaded: dict[tuple[str, torch.dtype], ctypes.CDLL | None] = field(default_factory=dict)

    def in_words(self) -> str:
        """For a record: ``compiled`` (at hand), ``PyTorch`` (not asked for, or not wanted), or why there is nothing.

        The same of an attack whose results were all there already, from a run that was interrupted.
        """
        if not (self.wanted and self.asked):
            return "PyTorch"
        return f"PyTorch: {self.refused}" if self.refused else "compiled"


compiling = Compiling()


@contextmanager
def compiled(wanted: bool) -> Iterator[Compiling]:
    """Whether compiled code may run inside; starts the record of it anew."""
    before = (compiling.wanted, compiling.asked)
    compiling.wanted, compiling.asked = wanted, False
    try:
        yield compiling
    finally:
        compiling.wanted, compiling.asked = before


def library(name: str, dtype: torch.dtype, check: Check) -> ctypes.CDLL | None:
    """The code of ``name``.c for numbers of that type; None where it is not wanted or cannot be had.

    ``check``: whether it answers rightly when it is used; asked once in a process.
    """
    if not compiling.wanted or dtype not in _TYPES:
        return None
    compiling.asked = True
    key = name, dtype
    if key not in compiling.loaded:
        try:
            compiling.loaded[key] = ctypes.CDLL(str(_built(name, *_TYPES[dtype])))
            if not check(dtype):
                raise RefusedError("the compiled code gives other numbers")
        except (OSError, RefusedError) as error:
            compiling.loaded[key] = None
            compiling.refused = str(error).splitlines()[0]
    return compiling.loaded[key]


def _built(name: str, real: str, integer: str) -> Path:
    """The file of machine code, from the cache, or compiled. Raises RefusedError, or OSError."""
    source = Path(__file__).with_name(f"{name}.c")
    compiler = shlex.split(os.environ.get("CC", "")) or _found()
    flags = [*_FLAGS, f"-DREAL={real}", f"-DINTEGER={integer}"]
    text = [file.read_text() for file in (source, source.with_name(_SHARED))]
    told = [*compiler, *flags, _version(compiler), _processor(), *text]
    kept = _cache() / f"{name}-{hashlib.sha256(chr(0).join(told).encode()).hexdigest()[:16]}.so"
    if not kept.is_file():
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(suffix=".so", dir=kept.parent)
        os.close(handle)
        try:
            _compile(compiler, flags, source, Path(draft))
            os.replace(draft, kept)  # whole, or not there: other processes may be at it
        finally:
            Path(draft).unlink(missing_ok=True)
    return kept


def _cache() -> Path:
    """A folder that this user alone writes to, for what lies in it is run; where there is none, one of this process."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "privsweep"
    with suppress(OSError, AttributeError):  # the latter where users have no numbers
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = home.stat()
        if about.st_uid == os.getuid() and not about.st_mode & _OTHERS and os.access(home, os.W_OK | os.X_OK):
            return home
    elsewhere = Path(tempfile.mkdtemp(prefix="privsweep-"))
    atexit.register(shutil.rmtree, elsewhere, ignore_errors=True)
    return elsewhere


def _found() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise RefusedError("no C compiler")


def _version(compiler: list[str]) -> str:
    try:
        return subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=_PATIENCE).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise RefusedError(f"the C compiler {compiler[0]} does not run") from error


def _processor() -> str:
    """What it can do: machines that share a home may differ in it."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _compile(compiler: list[str], flags: list[str], source: Path, to: Path) -> None:
    said = ""
    for processor in (*_FOR_THIS_PROCESSOR, None):
        own = [processor] if processor else []
        command = [*compiler, *flags, *own, str(source), "-o", str(to), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
        except (OSError, subprocess.SubprocessError) as error:
            raise RefusedError(f"the C compiler {compiler[0]} does not run") from error
        if done.returncode == 0:
            return
        said = next((line for line in done.stderr.splitlines() if "error" in line), "")
    raise RefusedError(f"the C compiler {compiler[0]} fails: {said}")
