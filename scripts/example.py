"""privsweep from Python: a small sweep, a single run, and everything that is stored as one table.

Run it with ``python scripts/example.py``, or with further overrides: ``python scripts/example.py scale=smoke``.
"""

from __future__ import annotations

import sys

import privsweep

OWN = ["fl_setting.victims=4", *(sys.argv[1:] or ["scale=quick"])]

# Overrides as on the command line; several values make a sweep. What is stored is not run again.
frame = privsweep.sweep("attack=dlg", "defense=[],[gradient_quantization]", "seed=0,1", *OWN)
print(frame.groupby("defense")[["ssim", "test_accuracy"]].agg(["mean", "std"]).round(2).to_string())

# One run, with its threat model and its metrics.
record = privsweep.execute(privsweep.compose("attack=idlg", *OWN))
print(record["signature"], record["threat_model"]["position"], f"{record['metrics']['psnr']:.1f} dB")

# Everything below outputs/, configuration values beside metrics: those that differ, or those that you name.
stored = privsweep.records("outputs", config=["attack.labels", "fl_setting.victims"])
print(stored[["attack", "defense", "seed", "attack.labels", "fl_setting.victims", "psnr"]].to_string(index=False))
