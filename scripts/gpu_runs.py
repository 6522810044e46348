"""Small runs of every attack, defence and setting, and inner loops that can be lengthened; digits are all they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_IGA = ["attack=iga", "fl_setting.labels_known=true", "attack.iterations=12"]
_PRIOR = "dataset.prior_size=100"
_SHADOWS = [_PRIOR, "attack.epochs=2"]
_FEW = "fl_setting.epochs=4"
_SPLIT = ["fl_setting=split", "model=lenet"]
_STEPS = ["attack=none", "fl_setting.batch_size=8", "fl_setting.lr=1e-3"]
_TRAINED = [*_STEPS, "fl_setting=central", "fl_setting.epochs=2"]
# A few iterations each, before rounding has grown. By default metrics may differ by a hundredth, absolutely below 1.
AGREEING: Mapping[str, Sequence[str]] = {
    "dlg": ["attack=dlg", "attack.iterations=2"],
    "idlg": ["attack=idlg", "attack.iterations=2", "fl_setting=fedsgd"],
    "cpl": ["attack=cpl", "fl_setting.labels_known=true", "attack.iterations=12", "fl_setting=central"],
    "iga_lenet": _IGA,
    "iga_dmlp": [*_IGA, "model=dmlp", "model.width=64"],
    "iga_precode": [*_IGA, "defense=[precode]", "model=smlp", "fl_setting=fedsgd"],
    "iga_aware": [*_IGA, "defense=[precode]", "attack.match=deterministic_layers", "attack.noise=optimised"],
    "iga_noise_samples": [*_IGA, "defense=[precode]", "attack.noise_samples=3"],
    "iga_pruned": [*_IGA, "defense=[gradient_pruning]", "attack.only_nonzero=true"],
    "iga_soteria": [*_IGA, "defense=[soteria]", "attack.only_nonzero=true", "fl_setting.rounds=1", "model=lenet"],
    "iga_resnet": [*_IGA, "model=resnet18", "model.width=8", "fl_setting.capture.mode=eval"],
    "iga_batch": [*_IGA, "fl_setting.capture.batch_size=4", "model=resnet18", "model.width=8"],
    "iga_without_rules": [
        *_IGA, "model=torchvision", "model.name=squeezenet1_1", "fl_setting.capture.mode=eval", "dataset.resize=32",
        "dataset.channels=rgb",
    ],
    "iga_difference": [*_IGA, "fl_setting.capture.what=difference", "fl_setting.optimizer=sgd"],
    "iga_unrolled": [
        *_IGA, "fl_setting.capture.what=difference", "attack.unrolled=true", "fl_setting.local_epochs=2",
    ],
    "iga_statistics": [*_IGA, "model=lenet", "model.norm=batch", "attack.statistics_weight=1"],
    "iga_prior": [
        *_IGA, _PRIOR, "attack.distance=squared", "attack.prior_weight=1e-4", "defense=[noisy_gradients]",
    ],
    "analytic": ["attack=analytic", "model=smlp", "defense=[noisy_gradients]"],
    "april": ["attack=april", "model=vit", "model.width=48", "model.depth=2", "defense=[noisy_gradients]"],
    "rgap": ["attack=rgap", "model=lenet_dlg", "defense=[noisy_gradients]"],
    "iga_vit": [*_IGA, "model=vit", "model.width=48", "model.depth=2"],
    "fishing": ["attack=fishing", "fl_setting.capture.batch_size=4", "attack.inversion.iterations=12"],
    "imprint": ["attack=imprint", "model=smlp", _PRIOR, "fl_setting.capture.batch_size=4"],
    "blind": ["attack=blind", "defense=[secure_aggregation]"],
    "dp_sgd": ["attack=dlg", "attack.iterations=2", "defense=[dp_sgd]", "fl_setting.rounds=1"],
    "quantised": ["attack=dlg", "attack.iterations=2", "defense=[gradient_quantization]"],
    "central_dp": ["attack=none", "defense=[central_dp]"],
    **{
        name: ["attack=shadow_inversion", "fl_setting=collaborative_inference", "model=lenet", f"defense=[{name}]"]
        for name in ("dropout_ensemble", "dropout_single", "random_head", "shredder", "single_noise")
    },
    "training": [*_TRAINED],
    "noisy_training": [*_TRAINED, "defense=[noisy_gradients]"],
    "precode_training": [*_TRAINED, "defense=[precode]"],
    "resnet_training": [*_TRAINED, "model=resnet18", "model.width=8"],
    "three_clients": [*_STEPS, "fl_setting=fedavg", "fl_setting.rounds=2", "fl_setting.local_epochs=2"],
    "generative_decoder": ["attack=generative_decoder", *_SPLIT, _PRIOR, "attack.epochs=2"],
    "prior_mean": ["attack=prior_mean", *_SPLIT, _PRIOR],
    "likelihood_inversion": ["attack=likelihood_inversion", *_SPLIT, "attack.iterations=12"],
    "moment_inversion": ["attack=moment_inversion", "fl_setting=collaborative_inference", "model=lenet"],
    "shadow_inversion": ["attack=shadow_inversion", "fl_setting=collaborative_inference", "model=lenet"],
    "shadow_inversion_ensembler": [
        "attack=shadow_inversion", "fl_setting=collaborative_inference", "model=lenet", "defense=[ensembler]",
    ],
    "blind_membership": ["attack=blind_membership"],
    "loss_threshold": ["attack=loss_threshold", _PRIOR],
    "shadow_membership": ["attack=shadow_membership", *_SHADOWS],
    "update_membership": ["attack=update_membership", _PRIOR, "fl_setting.capture.batch_size=4"],
    "property_inference": [
        "attack=property_inference", "dataset.prior_size=200", "dataset.superclasses=[[0,1,2,3,4],[5,6,7,8,9]]",
        "fl_setting.capture.batch_size=4", "fl_setting.property_share=0.5",
    ],
    "audit": ["attack=loss_threshold", "dataset.canaries=40", "fl_setting=central", "fl_setting.epochs=2"],
    "lira_offline": ["attack=lira_offline", *_SHADOWS, "attack.shadows=4"],
    "lira_online": ["attack=lira_online", *_SHADOWS, "attack.shadows=4"],
    "rmia": ["attack=rmia", *_SHADOWS, "attack.shadows=2", "model=smlp"],
    "informed_reconstruction": [
        "attack=informed_reconstruction", "fl_setting=release", "model=informed_mlp", "dataset.train_size=40", _FEW,
        "dataset.prior_size=20", "attack.shadows=8", "attack.width=8",
    ],
    "informed_convolutions": [
        "attack=informed_reconstruction", "fl_setting=release", "model=informed_cnn", "model.width=2", _FEW,
        "dataset.resize=32", "dataset.channels=rgb", "dataset.train_size=40", "dataset.prior_size=20",
        "attack.shadows=8", "attack.width=8",
    ],
    "informed_membership": [
        "attack=informed_membership", "fl_setting=release", "model=informed_mlp", "dataset.train_size=40", _FEW,
        "fl_setting.without=1", "fl_setting.canaries=true",
    ],
}  # fmt: skip
TINY = (
    "dataset.train_size=60",
    "dataset.test_size=40",
    "fl_setting.victims=2",
    "scale=smoke",
    "metrics.paper_scale=zen",
)

# What is typed, what lengthens it, how often, and the iterations or steps in each.
LOOPS: Mapping[str, tuple[Sequence[str], str, int, int]] = {
    "IGA, LeNet": (_IGA, "attack.iterations", 100, 1),
    "IGA, PRECODE": ([*_IGA, "defense=[precode]"], "attack.iterations", 100, 1),
    "DLG, LeNet": (["attack=dlg"], "attack.iterations", 2, 20),
    "training": (["attack=none", "fl_setting=central", "fl_setting.batch_size=2"], "fl_setting.epochs", 4, 30),
    "training, noisy": (
        ["attack=none", "fl_setting=central", "fl_setting.batch_size=2", "defense=[noisy_gradients]"],
        "fl_setting.epochs", 4, 30,
    ),
    "shadow models": (
        ["attack=shadow_membership", _PRIOR, "fl_setting.rounds=1", "attack.batch_size=2"], "attack.epochs", 4, 25,
    ),
}  # fmt: skip
