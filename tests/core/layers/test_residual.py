"""The blocks against the paper's code written out: there the shortcut is computed on the large map."""

import pytest
import torch
from torch.nn import functional as F

from sagan.core.layers.residual import DownBlock, SameBlock, UpBlock


def conv(layer, x):
    return F.conv2d(x, layer.weight / layer.sigma(), layer.bias, padding=layer.padding)


def repeat_pixels(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


@pytest.fixture(name="x")
def make_x():
    torch.manual_seed(0)
    return torch.randn(3, 6, 8, 4, dtype=torch.double)


@pytest.mark.parametrize("num_classes", [0, 4])
def test_up(x, num_classes):
    block = UpBlock(6, 5, num_classes).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    labels = torch.tensor([3, 0, 3]) if num_classes else None
    out = conv(block.conv1, repeat_pixels(F.relu(block.norm1(x, labels))))
    out = conv(block.conv2, F.relu(block.norm2(out, labels)))
    expected = out + conv(block.shortcut, repeat_pixels(x))
    assert expected.shape == (3, 5, 16, 8)
    torch.testing.assert_close(block(x, labels), expected)


@pytest.mark.parametrize("first", [True, False])
def test_down(x, first):
    block = DownBlock(6, 5, first=first).double()
    out = conv(block.conv2, F.relu(conv(block.conv1, x if first else F.relu(x))))
    expected = F.avg_pool2d(out, 2) + F.avg_pool2d(conv(block.shortcut, x), 2)
    assert expected.shape == (3, 5, 4, 2)
    torch.testing.assert_close(block(x), expected)


def test_same(x):
    block = SameBlock(6).double()
    torch.testing.assert_close(block(x), x + conv(block.conv2, F.relu(conv(block.conv1, F.relu(x)))))


def test_blocks_leave_their_input_alone_and_keep_maps_channels_last(x):
    x = x.float().contiguous(memory_format=torch.channels_last)
    before = x.clone()
    for block in (UpBlock(6, 5), DownBlock(6, 5), DownBlock(6, 5, first=True), SameBlock(6)):
        assert block(x).is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(x, before)
