"""Privacy budgets of repeatedly added noise, by Opacus's accountants."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

from privsweep.interface.errors import UserError

Accountant = Literal["rdp", "prv", "gdp"]
_TOLERANCE = 1e-3  # how far below its target an epsilon may stay
# Of neighbouring orders beyond Opacus' own: an epsilon is at most a hundredth of a percent above the best.
_RATIO = 1.03
_MOST = 1e6  # noise multiplier, as in Opacus
_FAR = 500.0  # an epsilon beyond which prv takes minutes and many GiB, and finds nothing


@dataclass(frozen=True)
class Releases:
    """How often noise protects the same data: ``steps`` times, each on a Poisson sample at ``sample_rate``.

    A rate of 1 is no sampling, and no amplification.
    """

    sample_rate: float
    steps: int


def check_noise(
    key: str, epsilon: float | None, noise_multiplier: float | None, clip: str, bound: float | None
) -> None:
    """Raises UserError unless exactly one of epsilon and noise is given, and a ``bound`` wherever there is noise."""
    if (epsilon is None) == (noise_multiplier is None):
        wrong = "neither is given" if epsilon is None else "one follows from the other"
        raise UserError(
            f"{key}.epsilon={_shown(epsilon)} {key}.noise_multiplier={_shown(noise_multiplier)}: {wrong}; give one of "
            "them, and null for the other"
        )
    if bound is None and noise_multiplier != 0:
        raise UserError(
            f"{key}.{clip}=null: noise protects only what is clipped; give a norm, or take {key}.epsilon=null "
            f"{key}.noise_multiplier=0"
        )


def loose(key: str, delta: float | None, holders: int, what: str) -> list[str]:
    """A warning where ``delta`` is above one over what is protected: whoever publishes one of it at random keeps to it.

    Dwork and Roth, "The algorithmic foundations of differential privacy" (2014), section 2.3. ``what``: of which there
    are so many ``holders``; ``delta`` None follows from their number.
    """
    if delta is None or delta <= 1 / holders:
        return []
    return [f"{key}.delta={delta:g}: is kept to by publishing one of {holders} {what}; take {1 / holders:.3g} or less"]


def asymptotic(key: str, accountant: Accountant, each: Iterable[Releases]) -> list[str]:
    """A warning where the accountant's epsilon is that of infinitely many sampled steps, which is no bound for few.

    Bu, Dong, Long and Su, "Deep learning with Gaussian differential privacy" (2020), section 3.2.
    """
    if accountant != "gdp" or all(one.sample_rate == 1 for one in each):
        return []
    return [f"{key}.accountant=gdp: is a limit for many steps, and its epsilon may come out too low; take rdp or prv"]


@cache
def budget(accountant: Accountant, noise_multiplier: float, releases: Releases, delta: float) -> Mapping[str, float]:
    """What those releases cost: ``epsilon``, ``delta``, and of ``rdp`` the ``renyi_order`` that gives that epsilon.

    Nothing where there is no noise, so no guarantee, or nothing is trained. Infinite where ``prv`` finds none. The
    order is on Opacus's grid, 1.1 to 10.9 and 12 to 63, and where the last of these is the best, of the higher ones
    too that small budgets need. Of ``gdp`` without sampling it is exact.
    """
    # Here, for the import takes a second or more, which runs without a budget need not wait.
    from opacus.accountants import RDPAccountant, create_accountant

    if noise_multiplier == 0 or releases.steps == 0:
        return {}
    if accountant == "prv" and budget("rdp", noise_multiplier, releases, delta)["epsilon"] > _FAR:
        return {"epsilon": math.inf, "delta": delta}
    if accountant == "gdp":
        return {"epsilon": _by_limit(noise_multiplier, releases, delta), "delta": delta}
    with _quiet():
        counted = create_accountant(accountant)
        counted.history = [(noise_multiplier, releases.sample_rate, releases.steps)]
        if not isinstance(counted, RDPAccountant):
            return {"epsilon": float(counted.get_epsilon(delta)), "delta": delta}
        epsilon, order = counted.get_privacy_spent(delta=delta)
        if order == counted.DEFAULT_ALPHAS[-1]:
            higher = _higher_orders(order, releases.sample_rate)
            epsilon, order = min((epsilon, order), counted.get_privacy_spent(delta=delta, alphas=higher))
    return {"epsilon": max(0.0, epsilon), "delta": delta, "renyi_order": order}


def _by_limit(noise_multiplier: float, releases: Releases, delta: float) -> float:
    """Of two Gaussians: exact without sampling, where the limit's distance of their means is too large.

    With a noise multiplier of 0.5 that is 7.3 for one step, and not 2. Raises ValueError for an epsilon above 500.
    """
    from opacus.accountants.analysis.gdp import compute_mu_poisson, delta_eps_mu, eps_from_mu

    steps, rate = releases.steps, releases.sample_rate
    with _quiet():
        apart = math.sqrt(steps) / noise_multiplier
        if rate < 1:
            apart = compute_mu_poisson(steps=steps, noise_multiplier=noise_multiplier, sample_rate=rate)
        if delta_eps_mu(eps=0.0, mu=apart) <= delta:  # where Opacus finds no root
            return 0.0
        return float(eps_from_mu(mu=apart, delta=delta))


def _higher_orders(last: float, sample_rate: float) -> list[float | int]:
    """Whole numbers above ``last``, each 3% above the one before.

    Without sampling the divergence is known at any order; with sampling, Opacus' binomial coefficients overflow above
    1029.
    """
    top = 2**16 if sample_rate == 1 else 1024
    steps = range(1, 1 + int(math.log(top / last) / math.log(_RATIO)))
    return sorted({round(last * _RATIO**k) for k in steps} - {int(last)})


def report(
    key: str,
    accountant: Accountant,
    noise_multiplier: float,
    each: Iterable[Releases],
    delta: float,
    clip: str,
    bound: float | None,
) -> dict[str, float]:
    """``budget`` of who pays most, and what it follows from; nothing without noise.

    ``each``: what the clients release, one or more. The norm ``bound`` stands under the name ``clip``. Raises UserError
    where the accountant finds no epsilon.
    """
    each = list(each)
    if noise_multiplier and any(math.isinf(_epsilon(accountant, noise_multiplier, o, delta)) for o in each if o.steps):
        raise UserError(
            f"{key}.noise_multiplier={noise_multiplier}: accountant={accountant} finds no epsilon for so little noise; "
            "take more, or accountant=rdp"
        )
    costs = [(budget(accountant, noise_multiplier, one, delta), one) for one in undominated(each)]
    cost, worst = max(costs, key=lambda pair: pair[0].get("epsilon", 0.0))
    if not cost:
        return {}
    told = {"noise_multiplier": noise_multiplier, clip: bound or 0.0}
    return {**cost, **told, "sample_rate": worst.sample_rate, "steps": float(worst.steps)}


def undominated(each: Iterable[Releases]) -> list[Releases]:
    """Those of which none is as frequent and as long as another, the costliest to be expected first.

    An epsilon grows with the sampling rate and with the steps, so that the rest cannot cost more. Of clients of many
    sizes that leaves one for each number of steps at most.
    """
    found: list[Releases] = []
    for one in sorted(set(each), key=lambda one: (one.sample_rate, one.steps), reverse=True):
        if not found or one.steps > found[-1].steps:
            found.append(one)
    return sorted(found, key=lambda one: one.sample_rate**2 * one.steps, reverse=True)


def noise_for(key: str, accountant: Accountant, epsilon: float, each: Iterable[Releases], delta: float) -> float:
    """The least noise multiplier, to rounding, that keeps to ``epsilon`` for every client.

    ``each``: what the clients release, one or more. Raises UserError where no noise does.
    """
    noise = 0.0
    for one in undominated(each):
        if not noise or _epsilon(accountant, noise, one, delta) > epsilon:
            noise = max(noise, _noise_for(key, accountant, epsilon, one, delta))
    return noise


@cache
def _noise_for(key: str, accountant: Accountant, epsilon: float, releases: Releases, delta: float) -> float:
    """Of one client.

    As Opacus's ``get_noise_multiplier``, which starts from noise so small that ``prv`` takes minutes and ``gdp`` fails.
    """
    if releases.steps == 0:
        raise UserError(
            f"{key}.epsilon={epsilon}: no noise follows from a budget where nothing is trained; give "
            f"{key}.noise_multiplier instead, or train"
        )

    def cost(noise: float) -> float:
        return _epsilon(accountant, noise, releases, delta)

    high = 1.0
    while cost(high) > epsilon:
        high *= 2
        if high > _MOST:
            raise UserError(
                f"{key}.epsilon={epsilon}: no noise is enough for {releases.steps} steps with delta={delta:.3g} and "
                f"accountant={accountant}; take more"
            )
    while high > 1 / _MOST and cost(high / 2) <= epsilon:
        high /= 2
    low, wanted = high / 2, epsilon - _TOLERANCE * min(1, epsilon) / 2
    halve = False  # where the same end has moved twice
    while epsilon - cost(high) > _TOLERANCE * min(1, epsilon) and high - low > _TOLERANCE**2 * high:
        middle = (low + high) / 2 if halve else _between(low, high, cost(low), cost(high), wanted)
        below = cost(middle) <= epsilon
        halve = not halve and below
        low, high = (low, middle) if below else (middle, high)
    return high


def _epsilon(accountant: Accountant, noise: float, releases: Releases, delta: float) -> float:
    try:
        return budget(accountant, noise, releases, delta)["epsilon"]
    except (ValueError, ArithmeticError):  # beyond what gdp looks at
        return math.inf


def _between(low: float, high: float, most: float, least: float, wanted: float) -> float:
    """Noise that costs about ``wanted``, were cost a power of noise: ``low`` costs ``most``, ``high`` ``least``."""
    if not least or math.isinf(most):
        return (low + high) / 2
    return low * (high / low) ** (math.log(most / wanted) / math.log(most / least))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the accountants' warnings: the bound stands at the end of the grid too, and conf/ says what gdp is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _shown(value: float | None) -> str:
    return "null" if value is None else str(value)
