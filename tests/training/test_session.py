import pytest
import torch

from sagan.run.config import Config, RunConfig, override
from sagan.training.session import settle, usable_device


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_precision_is_decided_once(precision):
    settled = settle(override(Config(), {"precision": precision}), torch.device("cpu"))
    assert settled.run.precision == {"auto": "fp32"}.get(precision, precision)
    assert settle(settled, torch.device("cpu")) == settled


def test_cuda_graphs_are_refused_where_there_are_none():
    assert usable_device(RunConfig(device="cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="cuda_graphs needs a CUDA device, and this run's is cpu"):
        usable_device(RunConfig(device="cpu", cuda_graphs=True))
