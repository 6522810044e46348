"""Training decoders on the adversary's own images, one or several of one make together, and decoding with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from privsweep.activation_inversion.initial_values import standardise, start_at_mean
from privsweep.activation_inversion.own_activations import AT_ONCE, OwnActivations
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.roles import Bench
from privsweep.interface.training import Examples, LocalSchedule, Training
from privsweep.training.fit import fit
from privsweep.training.stacked import Parallel

Make = Callable[[tuple[int, ...]], nn.Sequential]  # the shape of one image's activations -> a decoder of them
_WEIGHT = "weight:"  # names of weights in what is prepared
_SPEAKS = 50  # steps between two lines of progress


def train_decoders(
    make: Make,
    own: OwnActivations,
    schedule: LocalSchedule,
    rngs: Sequence[Rng],
    bench: Bench,
    *,
    parallel: Parallel = "auto",
    memory: float | None = None,
) -> dict[str, Tensor]:
    """R decoders, one for each source of ``own``, each with its own stream; each learns to return the pixels.

    parallel: as ``fit`` has it.
    memory: GiB for the decoders that are trained together; None: whatever they take.

    Returns weights ``[R, ...]`` for ``decode``, and ``loss`` ``[R, epochs]``: the mean squared error of pixels in
    [0, 1], of own images. To rounding no decoder depends on the others.
    """
    images = len(own.prior)
    decoders = []
    for k, rng in enumerate(rngs):
        with seeded(rng.child("decoder")):
            decoder = make(own.shape)
        first_ones = own(own.of(k)[:AT_ONCE])
        standardise(decoder.to(bench.device), first_ones)
        start_at_mean(decoder, first_ones, own.prior.pixels())
        decoders.append(decoder)
    states = [decoder.state_dict() for decoder in decoders]
    start = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    sizes = [len(batch) for batch in torch.arange(images).split(schedule.batch_size)]
    losses = torch.zeros(len(rngs), schedule.epochs, device=bench.device)
    first = 0  # of the decoders that are in training now

    def watch(done: int, total: int, loss: Tensor) -> None:
        nonlocal first
        epoch, step = divmod((done - 1) % schedule.length(images), len(sizes))
        losses[first : first + len(loss), epoch] += loss * (sizes[step] / images)
        if done % _SPEAKS == 0:
            bench.tick(done, total, loss=loss.mean().item())
        if done % schedule.length(images) == 0:
            first += len(loss)

    examples = Examples(
        lambda rows: (own(rows), own.pixels(rows)), [own.of(k) for k in range(len(rngs))], waits=own.kept is None
    )
    training = Training(decoders[0], start, None, mse_loss, examples, schedule, rngs)
    fitted = fit(training, parallel=parallel, memory=memory, watch=watch)
    return {**{_WEIGHT + name: w for name, w in fitted.weights.items()}, "loss": losses}


def decode(make: Make, prepared: Tensors, z: Tensor, k: int = 0) -> Tensor:
    """Pixels ``[n, C, H, W]`` in [0, 1] of activations ``[n, ...]``, by the k-th decoder of ``train_decoders``."""
    with torch.device("meta"):
        decoder = make(tuple(z.shape[1:]))
    weights = {name.removeprefix(_WEIGHT): w[k] for name, w in prepared.items() if name.startswith(_WEIGHT)}
    with torch.no_grad():
        return torch.cat([functional_call(decoder, weights, (part,)) for part in z.split(AT_ONCE)])
