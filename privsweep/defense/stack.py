"""Several defences, applied in the order given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.interface.defense import POINTS, Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.interface.returned import check_alike, check_returned
from privsweep.interface.training import Training


class Stack(Defense):
    """Several defences, folded in the order given; an empty stack is no defence."""

    def __init__(self, defenses: Mapping[str, Defense]):
        self.defenses = dict(defenses)

    @property
    def sums_only(self) -> bool:  # type: ignore[override]
        return any(d.sums_only for d in self.defenses.values())

    @property
    def answered_by(self) -> Mapping[str, str]:  # type: ignore[override]
        """Of one defence alone, for what it leaves another may change."""
        answers = [d.answered_by for d in self.defenses.values()]
        return answers[0] if len(answers) == 1 else {}

    @property
    def version(self) -> int:
        """1: sums of what is clipped are rounded towards zero."""
        return int(self.sums_only and any(d.bounded and "update" in d.bounded for d in self.defenses.values()))

    @property
    def uniform(self) -> bool:  # type: ignore[override]
        return any(d.uniform for d in self.defenses.values())

    def bind(self, schedule: Schedule) -> Stack:
        """Raises UserError too where members train in stages of their own, or one breaks another's guarantee."""
        summing: set[str] = set()  # what is clipped, before it is noised
        order = {(POINTS.index(p), n): name for n, (name, d) in enumerate(self.defenses.items()) for p in d.acts_at()}
        for n, (name, d) in enumerate(self.defenses.items()):
            if d.bounded is None:
                continue
            first, last = ((POINTS.index(p), n) for p in d.bounded)
            between = {other: place for place, other in order.items() if first < place < last and other != name}
            summing |= {o for o in between if self.defenses[o].sums_only}
            for other in sorted(between.keys() - summing):
                movable = between[other][0] in (first[0], last[0])
                raise UserError(
                    f"defense=[{','.join(self.defenses)}]: {other} changes what {name} clips before it adds noise, so "
                    f"that its epsilon would not hold; {'change the order, or ' * movable}leave {other} out"
                )
        each = {name: d.bind(schedule) for name, d in self.defenses.items()}
        bound = Stack({name: d.shortening() if name in summing else d for name, d in each.items()})
        bound._check_stages(schedule)
        bound._check_batches(schedule)
        return bound

    def _check_batches(self, schedule: Schedule) -> None:
        """A budget counts the batches of the defence whose it is, and the first that draws any draws them all."""
        drawing = [name for name, d in self.defenses.items() if "sample" in d.acts_at()]
        for name, d in self.defenses.items():
            if "example_gradients" in d.acts_at() and drawing[:1] not in ([], [name]) and d.spent(schedule):
                raise UserError(
                    f"defense=[{','.join(self.defenses)}]: {drawing[0]} draws batches that {name} does not account "
                    "for, so that its epsilon would not hold; leave one out"
                )

    def _check_stages(self, schedule: Schedule) -> None:
        """A second defence could not train its way, and a budget counts the steps of the schedule alone."""
        staged = [name for name, d in self.defenses.items() if "fit" in d.acts_at()]
        chosen = f"defense=[{','.join(self.defenses)}]"
        if len(staged) > 1:
            raise UserError(f"{chosen}: {' and '.join(staged)} each train in stages of their own; leave one out")
        if not staged:
            return
        private = [name for name, d in self.defenses.items() if name not in staged and d.spent(schedule)]
        if private:
            raise UserError(
                f"{chosen}: {staged[0]} uses the examples more often than {private[0]} accounts for, so that its "
                "epsilon would not hold; leave one out"
            )

    def budgets(self, schedule: Schedule) -> dict[str, dict[str, float]]:
        """What every member spends, by its name; without those that guarantee nothing."""
        spent = {name: dict(d.spent(schedule)) for name, d in self.defenses.items()}
        return {name: budget for name, budget in spent.items() if budget}

    def warnings(self, schedule: Schedule) -> list[str]:
        return [line for d in self.defenses.values() for line in d.warnings(schedule)]

    def acts_at(self) -> frozenset[str]:
        return frozenset().union(*(d.acts_at() for d in self.defenses.values()))

    def only(self, points: frozenset[str]) -> Stack:
        """The defences that act at one of these points, in order."""
        return Stack({name: d for name, d in self.defenses.items() if d.acts_at() & points})

    def _streams(self, rng: Rng) -> list[tuple[Defense, Rng]]:
        return [(d, rng.child(name)) for name, d in self.defenses.items()]

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        for name, d in self.defenses.items():
            if "fit" in d.acts_at():
                return d.fit(fit, training, fresh, rng.child(name))
        return fit(training)

    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        name, drawing = next((name, d) for name, d in self.defenses.items() if "sample" in d.acts_at())
        return drawing.sample(examples, batch_size, rng.child(name))

    def example_bound(self) -> float | None:
        bounds = [d.example_bound() for d in self.defenses.values()]
        finite = [bound for bound in bounds if bound != math.inf]
        return math.inf if not finite else finite[0] if len(finite) == 1 else None

    def gradient_noise(self, expected_batch: int) -> float:
        return math.hypot(*(d.gradient_noise(expected_batch) for d in self.defenses.values()))

    def surviving_clients(self, clients: int, rng: Rng) -> list[int]:
        left = [set(d.surviving_clients(clients, own)) for d, own in self._streams(rng)]
        return sorted(set(range(clients)).intersection(*left))

    def combine(self, messages: Sequence[Tensors]) -> Tensors:
        masking = [d for d in self.defenses.values() if d.sums_only]
        return masking[-1].combine(messages) if masking else super().combine(messages)


def _folded(point: str) -> Callable[..., Any]:
    """A point of all members: each changes what the one before it has made, with a stream of its own."""
    draws = "rng" in signature(getattr(Defense, point)).parameters

    def fold(self: Stack, changed: Any, *rest: Any) -> Any:
        for name, d in self.defenses.items():
            own = (*rest[:-1], rest[-1].child(name)) if draws else rest
            before = changed
            given = dict(changed) if point in _BY_NAME else {}  # a defence may take from what it is given
            changed = getattr(d, point)(changed, *own)
            if changed is None:
                raise TypeError(f"defense={name}: its {point} returns nothing; let it return what it has changed")
            if point in _BY_NAME:
                check_returned(f"defense={name}: its {point} returns", changed, given)
            elif isinstance(before, Tensor):
                check_alike(f"defense={name}: its {point} returns", changed, before)
        return changed

    return fold


# Points that change tensors by parameter name.
_BY_NAME = ("example_gradients", "batch_gradient", "gradient", "update", "aggregate")


for _point in POINTS:
    if _point not in vars(Stack):
        setattr(Stack, _point, _folded(_point))
