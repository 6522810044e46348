"""Every claim of two papers, as we have listed them, is carried by a table."""

from __future__ import annotations

import re

from privsweep.run.compose import CONF

# Part of the paper, and how many claims it makes: f1, f2 and so on.
CLAIMS = {
    "zen": """table1:4 table2:4 table3:2 text_dlg_resolution:2 text_dlg_batch:2 text_dlg_layers:2 text_dlg_training:3
        text_dlg_dp:2 table4:3 table5:2 table6:3 fig1:2 fig2:1 fig3:2 fig4:1 fig5:1 fig6:1 text_gd_extra:8 table7:4
        table8:6 table9:3 text_mia_extra:6 fig7:1 fig8:3 table10:7 text_hybrid:2 text_clients:2""",
    "precode": """fig1:1 fig2:1 fig3:1 table1:6 fig4:1 fig5:1 table2:11 fig6:2 table3a:5 table3b:4 text_convergence:1
        table4:4 fig7:6 text_gc_rates:1 text_cpl_lbfgs:1 text_tradeoff:1""",
}


def files(folder: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((CONF / "experiment" / folder).glob("*.yaml")))


def test_every_claim_is_carried_once() -> None:
    parts = [(paper, *part.split(":")) for paper, text in CLAIMS.items() for part in text.split()]
    ids = [f"{paper}.{part}.f{n + 1}" for paper, part, count in parts for n in range(int(count))]
    carried = re.findall(r"^    - id: (\S+)$", "\n".join(map(files, CLAIMS)), re.MULTILINE)
    assert len(ids) == 126
    assert sorted({*ids} - {*carried}) == []
    assert len(carried) == len({*carried})


def test_a_null_for_a_scale_stays_null_within_an_override() -> None:
    """A bare one would become the text None; quoted, Hydra reads it."""
    for folder in (CONF / "experiment").iterdir():
        assert re.findall(r"=\$\{at_scale:[^}]*(?<!')null[^}]*\}", files(folder.name)) == []
