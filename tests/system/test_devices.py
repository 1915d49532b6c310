import pytest
import torch

from sagan.system.devices import choose_device, send


def test_a_device_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="device nonsense cannot be used here"):
        choose_device("nonsense")
    assert choose_device("cpu") == torch.device("cpu")


def test_what_is_sent_arrives_as_it_was():
    x = torch.randn(3, 4)
    assert send(x, torch.device("cpu")) is x


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_what_is_sent_to_a_gpu_arrives_as_it_was():
    for _ in range(100):  # pinned memory is used again: not before it has been read
        x = torch.randn(1000)
        assert torch.equal(send(x, torch.device("cuda")).cpu(), x)


def test_a_device_that_computes_nothing_is_refused():
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:1 .* or mps, got 'meta'"):
        choose_device("meta")
