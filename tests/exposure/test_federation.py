import pytest
import torch
from torch import Tensor, nn

from privsweep.exposure.federation import batch_fault
from privsweep.interface.data import Data


class ByValue(nn.Module):
    """A layer of a user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


COUNTING = nn.BatchNorm1d(64, momentum=None)  # goes by how many batches there were
LAYERS = [(ByValue(), False), (nn.BatchNorm1d(64), True), (COUNTING, True), (nn.ReLU(), False)]


@pytest.mark.parametrize(("layer", "fault"), LAYERS)
def test_only_a_layer_that_needs_more_images_is_a_fault(layer: nn.Module, fault: bool, data: Data) -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Flatten(), layer.to("meta")).train()
        assert bool(batch_fault(net, data.domain, 1)) == fault
        assert batch_fault(net, data.domain, 2) is None
