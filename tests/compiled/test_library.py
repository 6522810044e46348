"""How the code comes to be there, and what happens where it does not."""

import ctypes
import platform
import stat
import sys

import pytest
import torch

from privsweep.compiled import library as module
from privsweep.compiled.convolution import VictimConvolution, compiled_for
from privsweep.compiled.library import Compiling, compiled, library

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not compiled_for(CPU, torch.float32), reason="no C compiler")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a new process whose cache is empty."""
    state = Compiling()
    monkeypatch.setattr(module, "compiling", state)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return state


def right(dtype: torch.dtype) -> bool:
    return True


def wrong(dtype: torch.dtype) -> bool:
    return False


@needs_compiler
def test_it_is_compiled_once_and_kept_for_this_user_alone(fresh, tmp_path, monkeypatch):
    assert isinstance(library("lanes", torch.float32, right), ctypes.CDLL)
    (kept,) = (tmp_path / "privsweep").iterdir()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    fresh.loaded.clear()
    monkeypatch.setattr(module, "_compile", lambda *_: pytest.fail("compiled again"))
    assert library("lanes", torch.float32, right) is not None


@needs_compiler
def test_other_processors_and_compilers_have_files_of_their_own(fresh, tmp_path, monkeypatch):
    library("lanes", torch.float32, right)
    for name in ("_processor", "_version"):
        monkeypatch.setattr(module, name, lambda *_: "another")
        fresh.loaded.clear()
        library("lanes", torch.float32, right)
    assert len(list((tmp_path / "privsweep").iterdir())) == 3


def test_without_a_compiler_the_record_says_so(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert library("lanes", torch.float32, right) is None
    assert fresh.in_words() == "PyTorch: no C compiler"


@pytest.mark.parametrize(("compiler", "said"), [("/nowhere/cc", "does not run"), (sys.executable, "fails")])
def test_a_compiler_that_does_not_work_is_named(fresh, monkeypatch, compiler, said):
    monkeypatch.setenv("CC", compiler)
    assert library("lanes", torch.float32, right) is None
    assert compiler in fresh.in_words()
    assert said in fresh.in_words()


@needs_compiler
def test_code_that_answers_wrongly_is_not_used(fresh):
    assert library("lanes", torch.float32, wrong) is None
    assert library("lanes", torch.float32, right) is None, "asked twice"
    assert fresh.in_words() == "PyTorch: the compiled code gives other numbers"


@needs_compiler
def test_where_the_home_cannot_be_written_to_it_lies_elsewhere(fresh, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.touch()  # not a folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert library("lanes", torch.float32, right) is not None


@needs_compiler
def test_a_folder_that_others_may_write_to_is_not_trusted(fresh, tmp_path, monkeypatch):
    kept = tmp_path / "privsweep"
    kept.mkdir()
    kept.chmod(0o777)
    assert library("lanes", torch.float32, right) is not None
    assert not [*kept.iterdir()]


@needs_compiler
def test_it_can_be_declined():
    with compiled(False) as state:
        assert not compiled_for(CPU, torch.float32)
        assert state.in_words() == "PyTorch"
    assert compiled_for(CPU, torch.float32)


def test_there_is_none_for_a_gpu_or_for_half_the_digits():
    assert not compiled_for(torch.device("cuda"), torch.float32)
    assert not compiled_for(CPU, torch.bfloat16)


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of other processors")
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx512f -mno-avx2 -mno-avx -mno-fma"])
def test_with_narrower_vectors_too_a_victims_numbers_depend_on_nobody(fresh, monkeypatch, without):
    monkeypatch.setenv("CC", f"cc {without}")
    image, weight, window = (3, 16, 16), (12, 3, 5, 5), ((2, 2), (2, 2))
    many, one = (VictimConvolution(victims, 1, image, weight, *window) for victims in (19, 1))
    random = torch.Generator().manual_seed(0)
    shared, images, d = (torch.randn(shape, generator=random) for shape in (weight, (19, *image), many.output))
    assert torch.equal(one.forward((images[3:4], shared)), many.forward((images, shared))[3:4])
    assert torch.equal(one.pull_back((d[3:4], shared)), many.pull_back((d, shared))[3:4])
    assert torch.equal(one.by_own_weight(images[3:4], d[3:4]), many.by_own_weight(images, d)[3:4])
