"""Whether a run fits its data: what can be refused only once their shape is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from privsweep.interface.data import Data, Dataset, Domain, ImageSet, TextDomain, image_shape, images_to_train_on
from privsweep.interface.errors import UserError
from privsweep.interface.machine import check_memory
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Update
from privsweep.interface.roles import CountsExamples, ReadsSentences, Separates, View
from privsweep.run.companions import told
from privsweep.run.own_model import check_own_defenses, check_own_model, check_within
from privsweep.run.placed_words import chosen_as, named_as
from privsweep.run.run_spec import RunSpec


@runtime_checkable
class Outlined(Protocol):
    """A dataset of which nearly everything can be told without its pixels."""

    def outline(self, rng: Rng) -> Data:
        """What ``load`` gives, the same labels in the same order, but without pixels and without their scale.

        For plans, which have files at hand: no pixel is read. Raises UserError as ``load`` does, as far as it can tell.
        """
        ...


def read(dataset: Dataset, rng: Rng) -> Data:
    """All of it."""
    return dataset.load(rng)


def outline(dataset: Dataset, rng: Rng) -> Data:
    """Without its pixels, where it can be told without them."""
    return dataset.outline(rng) if isinstance(dataset, Outlined) else dataset.load(rng)


def prior_of(spec: RunSpec, data: Data, rng: Rng, read: Callable[[Dataset, Rng], Data] = read) -> ImageSet | None:
    """The adversary's own data on the data's device: the training images of the prior, or those held out."""
    if spec.prior is None:
        return data.prior
    with named_as("prior"):
        prior = read(spec.prior, rng.child("prior"))
        images_to_train_on(prior)
    if prior.domain.shape != data.domain.shape:
        remedy = "take data of the same kind"
        if isinstance(data.domain, Domain) and isinstance(prior.domain, Domain):
            channels, side, _ = data.domain.shape
            remedy = f"set prior.resize={side} prior.channels={'grey' if channels == 1 else 'rgb'}"
        raise UserError(
            f"dataset@prior={spec.choices.get('dataset@prior')}: it has {prior.domain}, the target {data.domain}; "
            f"{remedy}"
        )
    return prior.train.to(data.train.labels.device)


def check_with_data(spec: RunSpec, data: Data, prior: ImageSet | None, rng: Rng) -> None:
    """What can be refused only once the data's shape is known; raises UserError before any work."""
    with told(spec.brought), chosen_as(spec.choices):
        check_attack(spec, check_seen(spec, data, rng), data, prior, rng)


def check_seen(spec: RunSpec, data: Data, rng: Rng) -> nn.Module:
    """The defended model without its values; raises UserError for what is no matter of which attack looks at it."""
    if data.multilabel:
        raise UserError(
            f"dataset={spec.choices.get('dataset')}: its images have several labels each, so it trains no "
            "classifier; it can only be an adversary's prior: dataset@prior=..."
        )
    if data.domain.classes < 2:
        raise UserError(
            f"dataset={spec.choices.get('dataset')}: has one class, which any model tells right; bring two or more, or "
            "take it as an adversary's prior: dataset@prior=..."
        )
    defended = _assembled(spec, data, rng)
    spec.fl_setting.check(data, spec.model, spec.defense, rng)
    schedule = spec.fl_setting.schedule(data, rng)
    defense = spec.defense.bind(schedule)  # raises where it has nothing to do in such a training
    if spec.view is not None:
        if spec.view.observation is Update and not reads_sentences(spec):
            image_shape(data.domain, f"attack={spec.choices.get('attack')}", "attack=dager")
        spec.view.check(data, spec.model, spec.defense, rng)
    spec.budgets(defense, schedule)  # raises where no epsilon is found, of a captured message neither
    return defended


def reads_sentences(spec: RunSpec) -> bool:
    """Whether its attack works on sentences."""
    return isinstance(spec.attack, ReadsSentences)


def check_attack(spec: RunSpec, defended: nn.Module, data: Data, prior: ImageSet | None, rng: Rng) -> None:
    """Raises UserError where the attack does not go with what ``check_seen`` found right."""
    check_within("attack", spec.attack, data.domain, rng.child("own_model", "attack"))
    if spec.view is not None:
        _check_separable(spec, spec.view, data, rng)
    with torch.device("meta"):
        known = data.train if prior is None and spec.knows_training_data else prior
        reason = spec.attack.fits(defended, data.domain, known)
    if reason:
        raise UserError(reason)


def _check_separable(spec: RunSpec, view: View, data: Data, rng: Rng) -> None:
    """Raises UserError where an attack would be given updates of more examples than it can tell apart."""
    if not isinstance(spec.attack, Separates) or not isinstance(view, CountsExamples):
        return
    if (behind := view.behind(data, spec.model, spec.defense, rng)) > spec.attack.at_most:
        instead = getattr(spec.attack, "instead", "attack=iga")
        raise UserError(
            f"attack={spec.choices.get('attack')}: mixes the examples behind one update, {behind} here, and tells "
            f"{spec.attack.at_most} apart; take {instead}, or let an update be of one client and "
            f"fl_setting.capture.batch_size={spec.attack.at_most}"
        )


def _assembled(spec: RunSpec, data: Data, rng: Rng) -> nn.Module:
    """The defended model without its values.

    Raises UserError where the machine cannot hold its parameters, none of them can be trained, or all images look alike
    to it.
    """
    what, remedy = f"model={spec.choices.get('model')}", "take smaller widths"
    check_own_model(what, spec.model, data.domain, rng.child("own_model"))
    check_own_defenses(spec.defense.defenses, spec.model, data.domain, rng.child("own_model", "defense"))
    try:
        with torch.device("meta"):
            model = spec.fl_setting.assembled(data.domain, spec.model, spec.defense, rng)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise UserError(f"{what}: has more parameters than can be counted; {remedy}") from error
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"{what}: all its parameters are frozen, so that nothing can be trained; let one layer move")
    parameters = sum(p.numel() for p in model.parameters())
    check_memory(4 * parameters, f"{what}: holding its {parameters:,} parameters", remedy)
    if _loses_images(model, data.domain):
        raise UserError(
            f"{what}: its group normalisation gets single values of an image, of which it leaves nothing; take a "
            "larger model.width, or larger images"
        )
    return model


def _loses_images(model: nn.Module, domain: Domain | TextDomain) -> bool:
    """Whether groups that are normalised hold a single value each: PyTorch refuses that of a single image alone."""
    if any(isinstance(layer, nn.GroupNorm) for layer in model.modules()):
        with torch.device("meta"), suppress(RuntimeError, TypeError):  # a layer that goes by values
            try:
                model.eval()(domain.blank(1))
            except ValueError:
                return True
            finally:
                model.train()
    return False
