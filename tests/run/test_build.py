import pytest
import torch

from sagan.run.build import attention_patterns, build_discriminator, build_generator, describe_attention
from sagan.run.config import ModelConfig

SMALL = ModelConfig(imsize=32, z_dim=4, g_conv_dim=8, d_conv_dim=8, span=1)


def test_weights_are_decided_by_the_seed_alone():
    torch.manual_seed(1)
    one = build_generator(SMALL, seed=3).state_dict()
    torch.manual_seed(2)
    torch.testing.assert_close(build_generator(SMALL, seed=3).state_dict(), one, rtol=0, atol=0)
    assert not torch.equal(build_generator(SMALL, seed=4).state_dict()["last.weight"], one["last.weight"])


def test_weights_do_not_depend_on_the_span():
    """Runs of one seed are paired over spans: they differ in what attention may see and in nothing else."""
    other = ModelConfig(imsize=32, z_dim=4, g_conv_dim=8, d_conv_dim=8, span=3, masking="before")
    for build in (build_generator, build_discriminator):
        torch.testing.assert_close(build(SMALL).state_dict(), build(other).state_dict(), rtol=0, atol=0)


def test_building_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_generator(SMALL)
    assert torch.equal(torch.rand(1), expected)


def test_attention_is_where_it_was_published():
    published = ModelConfig()
    assert list(attention_patterns(published, "generator")) == [16, 32]
    assert list(attention_patterns(published, "discriminator")) == [8, 4]
    assert list(attention_patterns(SMALL, "generator")) == [16]  # its 32x32 map is the image


@pytest.mark.parametrize(
    ("size", "dcgan", "resnet"),
    [
        (128, ([16, 32], [8, 4]), [32]),
        (96, ([24, 48], [12, 6]), [48]),
        (48, ([24], [12, 6]), [24]),
        ("64x96", ([16, 32], [8, 4]), [32]),
        ("80x112", ([20, 40], [10, 5]), [40]),
        ("112x80", ([20, 40], [10, 5]), [40]),
        (16, ([], [8, 4]), [8]),
    ],
)
def test_attention_at_other_sizes_is_at_maps_of_about_the_published_sizes(size, dcgan, resnet):
    model = ModelConfig(imsize=size)
    found = [attention_patterns(model, network) for network in ("generator", "discriminator")]
    assert tuple(map(list, found)) == dcgan
    model = ModelConfig(imsize=size, network="resnet")
    for network in ("generator", "discriminator"):
        found.append(attention_patterns(model, network))
        assert list(found[-1]) == resnet
    for patterns in found:
        for at, pattern in patterns.items():
            assert (pattern.height, pattern.width) == model.shape.grid(at)


def test_maps_are_named_by_both_sides():
    model = ModelConfig(imsize="64x96", g_span=(1, 2, 3))
    with pytest.raises(ValueError, match=r"g_span must be one span, or .* of the generator \(16x24, 32x48\)"):
        attention_patterns(model, "generator")
    with pytest.raises(ValueError, match="the generator has no map whose shorter side is 24 to attend to; it has 4, 8"):
        attention_patterns(ModelConfig(imsize="64x96", g_attention=(24,)), "generator")
    assert describe_attention(ModelConfig(imsize="96x64"))[0].startswith("generator 24x16: span 0")


def test_attention_can_be_anywhere_there_is_a_map():
    chosen = ModelConfig(g_attention=(8, 4), d_attention=(32,))
    assert list(attention_patterns(chosen, "generator")) == [4, 8]
    assert list(attention_patterns(chosen, "discriminator")) == [32]
    assert attention_patterns(ModelConfig(g_attention=()), "generator") == {}
    with pytest.raises(ValueError, match="the generator has no 64x64 map to attend to; it has 4, 8, 16, 32"):
        attention_patterns(ModelConfig(g_attention=(64,)), "generator")


def test_each_network_can_have_its_own_span():
    model = ModelConfig(span=3, d_span=0, pool=2)
    assert {p.span for p in attention_patterns(model, "generator").values()} == {3}
    assert {(p.span, p.pool) for p in attention_patterns(model, "discriminator").values()} == {(0, 2)}


def test_layers_whose_queries_see_nothing_are_named():
    lines = describe_attention(ModelConfig(span=3))
    assert len(lines) == 4
    assert lines[3] == (
        "discriminator 4x4: span 3, a query sees 0% of the keys; no query sees any (attention adds nothing there)"
    )
    assert "none" not in "".join(lines[:3])
    assert "4 of 16 queries see none" in describe_attention(ModelConfig(span=2))[3]
    assert all("100% of the keys" in line for line in describe_attention(ModelConfig(span=0)))
