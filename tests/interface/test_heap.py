import subprocess
import sys

import pytest

_FAULTS = """
import os, resource, torch
from privsweep.interface import heap

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * os.sysconf("SC_PAGE_SIZE") / 2**30

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

heap.keep()
pages()
print(pages(), resident())
heap.trim()
print(resident())
"""


def _told(**environment: str) -> tuple[float, float, float]:
    """GiB of pages taken anew by ten steps of 64 MiB; MiB that the process holds afterwards, and once trimmed."""
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], env={"PATH": "", **environment}, capture_output=True, text=True, check=True
    )
    pages, held, trimmed = map(float, done.stdout.split())
    return pages, held, trimmed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc's heap is kept")
def test_memory_that_a_step_frees_serves_the_next_one_and_goes_back_when_trimmed():
    pages, held, trimmed = _told()
    assert pages < 0.1
    assert trimmed < held - 48


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc's heap is kept")
def test_what_the_user_has_said_of_memory_stands():
    pages, _, _ = _told(MALLOC_MMAP_THRESHOLD_="1048576")
    assert pages > 0.5
