"""Sweeps of privacy attacks against collaborative learning, and of the defences."""

import os

# PyTorch's CPU threads spin while they wait. On a core shared with another process, that made small
# training steps fifty times slower; it must be said before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
