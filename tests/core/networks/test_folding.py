"""Folded networks compute the same with plain weights."""

import itertools

import pytest
import torch

from sagan.core.networks.folding import folded
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, override

CASES = list(itertools.product(("dcgan", "resnet"), (0, 3), (0, 2), ("after", "before"), (1, 2)))


def build(network, classes, span, masking, pool):
    """A generator and a discriminator whose norms and gates have seen something, and inputs."""
    changes = {"network": network, "num_classes": classes, "span": span, "masking": masking, "pool": pool}
    model = override(Config(), {"imsize": 16, "z_dim": 6, "g_conv_dim": 4, "d_conv_dim": 4, **changes}).model
    generator, discriminator = build_generator(model, 1), build_discriminator(model, 1)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (generator, discriminator):
            for name, weight in network.named_parameters():
                if "gamma" in name or "norm" in name or weight.ndim == 1:
                    weight.add_(torch.randn(weight.shape, generator=draw).mul(0.3))
        labels = torch.arange(12) % classes if classes else None
        z = torch.randn(12, 6, generator=draw)
        for _ in range(3):
            generator(z, labels)
    images = torch.rand(12, 3, 16, 16, generator=draw) * 2 - 1
    return generator.eval(), discriminator.eval(), z, images, labels


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_folded_network_computes_the_same(case):
    generator, discriminator, z, images, labels = build(*case)
    with torch.no_grad():
        torch.testing.assert_close(folded(generator)(z, labels), generator(z, labels), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            folded(discriminator)(images, labels), discriminator(images, labels), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_what_training_needs_is_gone_and_the_original_unchanged(network):
    generator, discriminator, *_ = build(network, 3, 2, "after", 1)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    names = set(folded(generator).state_dict())
    assert not any(name.endswith((".u", ".v")) for name in names)
    assert not any(".norm2.norm." in name or ".1.norm." in name for name in names)
    assert not any(name.endswith((".u", ".v")) for name in folded(discriminator).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert not any(weight.requires_grad for weight in folded(generator).parameters())


def test_folding_twice_changes_nothing_more():
    generator, _, z, _, labels = build("resnet", 3, 2, "after", 1)
    once = folded(generator)
    assert torch.equal(folded(once)(z, labels), once(z, labels))
