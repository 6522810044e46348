"""The cases of ``scripts/benchmark.py``, one subject a file; each gives a baseline, our ways and, mostly, a floor."""
