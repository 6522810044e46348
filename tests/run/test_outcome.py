from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.header import title_of


def test_a_title_names_the_network_behind_a_choice_that_stands_for_many() -> None:
    with searching(None):
        spec = build(
            compose(["model=torchvision", "model.name=resnet50", "attack=iga", "fl_setting.labels_known=true"])
        )
    assert title_of(spec) == "iga on digits, resnet50, fedavg, no defence"
