"""What SLURM refuses is told with the key that it is about."""

from __future__ import annotations

import pytest

from privsweep.cli.slurm import JobArrays


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "More processors requested than permitted",
            "; set hydra.launcher.cpus_per_task to what the cluster has (now 8)",
        ),
        ("Memory specification can not be satisfied", "; set hydra.launcher.mem_gb to what the cluster has (now 16)"),
        ("Invalid account or account/partition combination specified", "account"),
        ("Something else", ""),
    ],
)
def test_the_key_that_slurm_speaks_of(said: str, expected: str) -> None:
    made = JobArrays(cpus_per_task=8, mem_gb=16, account="x", submitit_folder=".")
    remedy = made._remedy(said)
    assert expected in remedy
    assert bool(expected) == bool(remedy)
