from dataclasses import dataclass, replace

import pytest
import torch
from tiny import TRAINED, Bench, digits_of
from torch import nn

from privsweep.activation_inversion.initial_values import start_at_mean
from privsweep.activation_inversion.mirror_decoder import mirror
from privsweep.attack.generative_decoder import GenerativeDecoder
from privsweep.attack.prior_mean import PriorMean
from privsweep.defense.stack import Stack
from privsweep.exposure.activations import ActivationCapture
from privsweep.exposure.queries import Client
from privsweep.fl_setting.split import SplitFed
from privsweep.interface.data import Data, Domain
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge
from privsweep.interface.truth import Images
from privsweep.model.convnet import ConvNet
from privsweep.model.perturbation import FeatureDropout, NoiseCollection
from privsweep.model.resnet import ResNet
from privsweep.model.split_at import cut
from privsweep.model.split_network import SplitNetwork
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.store.fingerprint import checksum_of

CUT = sorted(
    {p.stem for p in (CONF / "model").glob("*.yaml")} - {"torchvision", "translation_transformer", "vit"}
)  # no sequence of layers; no images; no mirror image
LENET = ConvNet(
    width=8, layers=[1, 1], depth=2, kernel=5, pool_after=[1, 2], pooling="max", norm="none", fc=[16], fc_width=None,
    padding="same", activation="relu", init="default", init_bound=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Data:
    return digits_of(train_size=120, test_size=20, prior_size=400, normalize=True).load(Rng(0))


@dataclass(frozen=True)
class Query:
    """A client that answers whoever asks."""

    part: nn.Module

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.part(x)


def setting(**changes: object) -> SplitFed:
    values = {
        **TRAINED, "clients": 3, "rounds": 1, "participation": 1.0, "partition": "iid", "dirichlet_alpha": 0.5,
        "local_epochs": 2, "local_steps": None, "optimizer": "adam", "lr": 0.01, "cut": "pool2", "reveals": "each",
        "victims": 12, "capture": ActivationCapture(round="last", client=0, batch_size=1, mode="eval"),
    }  # fmt: skip
    return SplitFed(**{**values, **changes})


def attack(**changes: object) -> GenerativeDecoder:
    values = {
        "decoder": "mirror", "learns_from": "client_part", "kernel": None, "width": None, "blocks": 1, "epochs": 20,
        "batch_size": 16, "lr": 3e-3, "memory": 1.0,
    }  # fmt: skip
    return GenerativeDecoder(**{**values, **changes})


def exposed(data: Data, **changes: object) -> Exposure:
    world = setting(**changes)
    system = world.train(data, LENET, Stack({}), Rng(0), Bench())
    out = world.views()[0].expose(system, data, LENET, Stack({}), Rng(0))
    return replace(out, known=out.known.having(prior=data.prior))


def decoded(out: Exposure, **changes: object) -> Reconstruction:
    decoder = attack(**changes)
    prepared = decoder.prepare(out.known, Bench(), Rng(0))
    guess = decoder(out.seen, out.known, prepared, Bench(), Rng(0))  # type: ignore[arg-type]
    assert isinstance(guess, Reconstruction)
    return guess


def error(guess: Reconstruction, out: Exposure, data: Data) -> float:
    assert isinstance(out.truth, Images)
    return (data.domain.pixels(guess.images) - out.truth.pixels).square().mean().item()


def test_it_sees_more_at_an_early_cut_and_at_any_more_than_the_mean_image(digits: Data) -> None:
    errors = []
    for layer in ("pool1", "pool2", "fc1"):
        out = exposed(digits, cut=layer)
        errors.append(error(decoded(out), out, digits))
    blind = PriorMean()(out.seen, out.known, {}, Bench(), Rng(0))  # type: ignore[arg-type]
    assert errors[0] < 0.7 * errors[1]
    assert errors[1] < errors[2] < error(blind, out, digits)


def test_pixels_are_pixels_and_training_gets_somewhere(digits: Data) -> None:
    out = exposed(digits)
    prepared = attack().prepare(out.known, Bench(), Rng(0))
    assert prepared["loss"].shape == (20,)
    assert prepared["loss"][-1] < 0.6 * prepared["loss"][0]
    pixels = digits.domain.pixels(decoded(out).images)
    assert pixels.min() > -1e-6
    assert pixels.max() < 1 + 1e-6


def test_the_residual_decoder_reads_more_from_an_early_cut(digits: Data) -> None:
    out = exposed(digits, cut="pool1")
    mirrored, residual = (decoded(out, decoder=kind, width=8) for kind in ("mirror", "residual"))
    assert error(residual, out, digits) < 0.7 * error(mirrored, out, digits)


def test_queries_teach_as_much_as_the_clients_part_itself(digits: Data) -> None:
    out = exposed(digits)
    asking = attack(decoder="residual", learns_from="queries", width=4, epochs=3)
    assert asking.needs == asking.prepares_from == {"query", "prior", "domain"}
    known = Knowledge(query=Query(out.known.model), prior=digits.prior, domain=digits.domain)
    prepared = asking.prepare(known, Bench(), Rng(0))
    guess = asking(out.seen, known, prepared, Bench(), Rng(0))  # type: ignore[arg-type]
    informed = decoded(out, decoder="residual", width=4, epochs=3)
    assert torch.allclose(guess.images, informed.images, atol=1e-5)


def test_a_mirror_of_what_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match=r"take attack\.decoder=residual"):
        attack(learns_from="queries")


def test_activations_that_do_not_fit_into_memory_are_made_anew(digits: Data) -> None:
    out = exposed(digits)
    kept, anew = (decoded(out, epochs=2, memory=memory) for memory in (1.0, 0.0))
    assert torch.allclose(kept.images, anew.images, atol=1e-4)


@pytest.mark.parametrize("learns_from", ["client_part", "queries"])
def test_what_is_drawn_for_every_query_is_never_kept(digits: Data, learns_from: str) -> None:
    """Where memory allowed it, one draw served all epochs, and the same run gave other results with less."""
    out = exposed(digits, cut="pool1")
    part = nn.Sequential(*out.known.model, FeatureDropout(tuple(out.seen.z.shape[2:]), 0.5)).eval()
    guesses = []
    for memory in (1.0, 0.0):
        asked = Client(part, Stack({}), Rng(0))
        known = Knowledge(model=part, message_size=0, query=asked, prior=digits.prior, domain=digits.domain)
        decoder = attack(decoder="residual", learns_from=learns_from, width=4, epochs=3, memory=memory)
        prepared = decoder.prepare(known, Bench(), Rng(0))
        guesses.append(decoder(out.seen, known, prepared, Bench(), Rng(0)))  # type: ignore[arg-type]
    kept, anew = guesses
    assert torch.equal(kept.images, anew.images)


def test_few_noises_of_which_one_is_drawn_are_not_taken_for_none(digits: Data) -> None:
    """Of two noises two images get the same again in a quarter of the runs."""
    part = nn.Sequential(nn.Conv2d(1, 2, 3), NoiseCollection(torch.randn(2, 2, 6, 6), None)).eval()
    known = Knowledge(model=part, message_size=0, prior=digits.prior, domain=digits.domain)
    assert all(attack()._own_activations(known, Rng(seed)).kept is None for seed in range(20))


def test_of_a_mean_it_answers_one_image_for_all(digits: Data) -> None:
    capture = ActivationCapture(round="last", client=0, batch_size=3, mode="eval")
    each = exposed(digits, capture=capture)
    mean = exposed(digits, capture=capture, reveals="mean")
    guess = decoded(mean)
    assert guess.images.shape == (12, 3, *digits.domain.shape)
    assert torch.equal(guess.images[:, 0], guess.images[:, 2])
    assert error(decoded(each), each, digits) < error(guess, mean, digits)


def test_it_takes_the_clients_part_as_it_is_and_leaves_it_so(digits: Data) -> None:
    """In train mode, too, where normalisation keeps statistics."""
    world = setting(capture=ActivationCapture(round="last", client=0, batch_size=4, mode="train"), victims=2)
    normed = replace(LENET, norm="batch")
    system = world.train(digits, normed, Stack({}), Rng(0), Bench())
    out = world.views()[0].expose(system, digits, normed, Stack({}), Rng(0))
    out = replace(out, known=out.known.having(prior=digits.prior))
    decoded(out, epochs=1)
    assert out.known.model.training
    now = out.known.model.state_dict()
    assert checksum_of(out.known.model) != checksum_of(out.known.model.eval())  # what is prepared depends on the mode
    assert all(torch.equal(w, now[n]) for n, w in out.seen.weights.items())  # type: ignore[union-attr]


def test_the_mean_image_is_the_public_datas(digits: Data) -> None:
    out = exposed(digits)
    guess = PriorMean()(out.seen, out.known, {}, Bench(), Rng(0))  # type: ignore[arg-type]
    assert digits.prior is not None
    mean = digits.prior.pixels().mean(0)
    assert torch.allclose(digits.domain.pixels(guess.images), mean.expand(12, 1, -1, -1, -1), atol=1e-6)


def test_data_that_do_not_fit_are_refused(digits: Data) -> None:
    grey = Domain((1, 9, 8), 10, (0.0,), (1.0,))
    assert "prior_size" in (attack().fits(nn.Sequential(), digits.domain, None) or "")
    assert "are 1x8x8, the target's 1x9x8" in (attack().fits(nn.Sequential(), grey, digits.prior) or "")
    assert attack().fits(nn.Sequential(), digits.domain, digits.prior) is None
    flat = SplitNetwork(nn.Sequential(nn.Flatten()), nn.Linear(64, 9), nn.Linear(9, 10), (64,), (9,))
    assert "attack.decoder=residual" in (attack().fits(flat, digits.domain, digits.prior) or "")
    assert attack(decoder="residual").fits(flat, digits.domain, digits.prior) is None
    assert "prior_size" in (PriorMean().fits(nn.Sequential(), digits.domain, None) or "")


def test_a_transformer_has_no_mirror_image(digits: Data) -> None:
    with searching(None):
        network = build(compose(["model=vit", "model.patch=2", "model.width=12", "model.depth=1"])).model
    net = network.build(digits.domain, Rng(0))
    assert "take attack.decoder=residual" in (attack().fits(net, digits.domain, digits.prior) or "")
    assert attack(decoder="residual").fits(net, digits.domain, digits.prior) is None


@pytest.mark.parametrize(
    "model", [*CUT, "resnet18 model.stem=pooled", "resnet18 model.stem=imagenet", "lenet model.pooling=stride"]
)
def test_every_cut_of_every_model_has_its_decoder(model: str) -> None:
    """As many transposed convolutions as convolutions, as many dense layers as dense ones, and exactly the image."""
    domain = Domain((3, 37, 45), 10, (0.0,) * 3, (1.0,) * 3)
    with searching(None):
        architecture = build(compose([f"model={model.split()[0]}", *model.split()[1:]])).model
    with torch.device("meta"):
        net = architecture.build(domain, Rng(0)).eval()
        for layer, _ in net.named_children():
            head, _ = cut(net, layer)
            if not list(head.parameters()):
                continue
            decoder = mirror(head, domain, None, None)
            assert decoder(head(torch.zeros(2, *domain.shape))).shape == (2, *domain.shape)
            for there, back in ((nn.Conv2d, nn.ConvTranspose2d), (nn.Linear, nn.Linear)):
                assert count(head, there) == count(decoder, back)


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in model.modules())


def test_the_decoder_of_zens_lenet_is_what_the_paper_says() -> None:
    domain = Domain((1, 28, 28), 10, (0.0,), (1.0,))
    net = replace(LENET, width=64).build(domain, Rng(0))
    head, _ = cut(net, "pool2")
    layers = list(mirror(head, domain, None, None))
    assert [type(m).__name__ for m in layers] == ["ConvTranspose2d", "ReLU", "ConvTranspose2d", "Sigmoid"]
    assert [m.kernel_size for m in layers[::2]] == [(6, 6), (6, 6)]  # type: ignore[union-attr]
    assert [m.stride for m in layers[::2]] == [(2, 2), (2, 2)]  # type: ignore[union-attr]
    assert mirror(head, domain, 3, 16)[0].weight.shape == (64, 16, 4, 4)


@pytest.mark.parametrize("flat", [False, True])
def test_a_decoder_begins_near_the_mean_image_however_large_the_activations(flat: bool) -> None:
    layer = nn.Linear(4, 64) if flat else nn.ConvTranspose2d(4, 1, 8)
    decoder = nn.Sequential(layer, *([nn.Unflatten(1, (1, 8, 8))] if flat else []), nn.Sigmoid())
    z = 50 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    pixels = torch.full((5, 1, 8, 8), 0.2)
    start_at_mean(decoder, z if flat else z[..., None, None], pixels)
    guess = decoder(z if flat else z[..., None, None])
    assert abs(float(guess.detach().median()) - 0.2) < 0.1
    assert 0.01 < float(guess.detach().std()) < 0.3


class Counts(nn.Module):
    """A client's part that remembers how many images pass it at once."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part, self.sizes = part, list[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.part(x)


@pytest.mark.parametrize(("mode", "norm", "size"), [("train", "batch", 5), ("train", "group", 0), ("eval", "batch", 0)])
def test_own_images_are_normalised_in_batches_of_a_message(digits: Data, mode: str, norm: str, size: int) -> None:
    """They passed in batches of ``attack.batch_size``, and the decoder had never seen such activations as it got."""
    captured = ActivationCapture(round="last", client=0, batch_size=5, mode=mode)  # type: ignore[arg-type]
    world = setting(capture=captured, rounds=0, victims=2)
    normed = replace(LENET, norm=norm)
    system = world.train(digits, normed, Stack({}), Rng(0), Bench())
    known = world.views()[0].expose(system, digits, normed, Stack({}), Rng(0)).known
    assert known.message_size == size
    part = Counts(known.model)
    watched = known.having(prior=digits.prior.take(torch.arange(18)), model=part)  # type: ignore[union-attr]
    prepared = attack(decoder="residual", width=4, epochs=2, batch_size=8).prepare(watched, Bench(), Rng(0))
    assert prepared["loss"].isfinite().all()
    assert set(part.sizes) == {5} if size else 5 not in part.sizes


def test_what_is_left_of_a_batch_is_filled_up_with_other_own_images(digits: Data) -> None:
    """Maps of a single pixel, which batch normalisation refuses of a single image."""
    net = ResNet(blocks=(1, 1, 1, 1), width=2, stem="small", norm="batch", activation="relu", init="he")
    part, _ = cut(net.build(digits.domain, Rng(0)), "block4_1")
    known = Knowledge(
        model=part.train(), message_size=2, prior=digits.train.take(torch.arange(17)), domain=digits.domain
    )  # fmt: skip
    assert attack(epochs=1, batch_size=8).prepare(known, Bench(), Rng(0))["loss"].isfinite().all()
