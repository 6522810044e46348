"""What a query costs in collaborative inference: time of client and server, and what travels between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from privsweep.model.ensemble import Bodies
from privsweep.model.split_network import SplitNetwork

_TIMED = 7  # queries of which the median counts, after one that warms up


def cost(net: SplitNetwork, x: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Measures and seconds of one query ``x`` ``[1, ...]`` of a network in eval mode (Ensembler, section 4.4).

    The client sends one tensor; the server sends back what each of its networks answers.
    """
    networks = len(net.body.nets) if isinstance(net.body, Bodies) else 1
    with torch.no_grad():
        sent = net.head(x)
        returned = net.body(sent)
        seconds = {
            "client_query": _median(lambda: (net.head(x), net.tail(returned)), x.device),
            "server_query": _median(lambda: net.body(sent), x.device),
        }
    measures = {
        "bytes_up": sent.nbytes,
        "bytes_down": returned.nbytes,
        "attacker_combinations": 2**networks - 1,
    }
    return {name: float(value) for name, value in measures.items()}, seconds


def _median(call: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(_TIMED + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])
