"""Against `benchmarks.plain`, an independent reading of the published program."""

import pytest
import torch

from benchmarks.plain import PlainDiscriminator, PlainGenerator
from sagan.published.imports import load_published_discriminator, load_published_generator
from sagan.published.keys import from_published, key_pairs, read_published, save_published_pair, to_published
from sagan.run.build import build_generator
from sagan.run.config import ModelConfig

SPANS = {"none": (None, 0), "self": (0, "self"), "1": (1, 1), "3": (3, 3)}  # theirs, ours


def settled(network, *inputs):
    """A plain network with open gates and sharp attention, whose iterations and statistics have settled a little."""
    for module in network.modules():
        if hasattr(module, "gamma"):
            torch.nn.init.constant_(module.gamma, 0.7)
            module.query_conv.weight.data *= 10
    with torch.no_grad():
        for x in inputs:
            network(x)
    return network


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    return tmp_path / "10_G.pth", tmp_path / "10_D.pth"


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("training", [False, True])
def test_images_equal_the_published_programs(files, span, training):
    theirs, ours = SPANS[span]
    plain = settled(PlainGenerator(theirs), *torch.randn(3, 4, 128)).train(training)
    torch.save(plain.state_dict(), files[0])
    generator = load_published_generator(files[0], ours)[0].train(training)
    z = torch.randn(4, 128)
    with torch.no_grad():
        torch.testing.assert_close(generator(z), plain(z)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("span", ["none", "self", "1"])
def test_logits_equal_the_published_programs(files, span):
    theirs, ours = SPANS[span]
    plain = settled(PlainDiscriminator(theirs), *torch.randn(3, 2, 3, 64, 64))
    torch.save(plain.state_dict(), files[1])
    discriminator = load_published_discriminator(files[1], ours)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(discriminator(images), plain(images)[0], rtol=0, atol=1e-5)


def test_the_span_matters(files):
    torch.save(settled(PlainGenerator(3), *torch.randn(3, 4, 128)).state_dict(), files[0])
    z = torch.randn(2, 128)
    one, other = (load_published_generator(files[0], span)[0].train() for span in (3, 0))
    assert (one(z) - other(z)).abs().max() > 1e-2


def test_files_are_written_as_that_program_reads_them(files, tmp_path):
    model = ModelConfig(norm_axis="input", span=1)
    from sagan.run.build import build_discriminator

    save_published_pair(tmp_path, 10, build_generator(model), build_discriminator(model))
    PlainGenerator().load_state_dict(torch.load(files[0], weights_only=True))
    PlainDiscriminator().load_state_dict(torch.load(files[1], weights_only=True))


def test_keys_are_the_published_ones_in_the_published_order():
    keys = list(key_pairs("generator"))
    assert (len(keys), keys[0], keys[-1]) == (52, "l4.0.module.bias", "attn2.value_conv.bias")
    assert len(key_pairs("discriminator")) == 32


def test_there_and_back(tmp_path):
    state = build_generator(ModelConfig(norm_axis="input")).state_dict()
    back = from_published("generator", to_published("generator", state))
    torch.testing.assert_close(back, dict(state), rtol=0, atol=0)


def test_data_parallel_files_load(files):
    state = PlainGenerator().state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, files[0])
    assert set(read_published(files[0], "generator")) == set(key_pairs("generator").values())


def test_widths_are_read_from_the_file(files):
    model = ModelConfig(z_dim=16, g_conv_dim=8, norm_axis="input")
    torch.save(to_published("generator", build_generator(model).state_dict()), files[0])
    _, found = load_published_generator(files[0], 0)
    assert (found.z_dim, found.g_conv_dim) == (16, 8)


def test_other_files_are_refused_in_a_sentence(files):
    generator_file, discriminator_file = files
    torch.save(PlainDiscriminator().state_dict(), discriminator_file)
    with pytest.raises(ValueError, match=r"10_D.pth: this is not a published 64x64 generator: \d+ keys"):
        load_published_generator(discriminator_file, 0)
    generator_file.write_bytes(discriminator_file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a whole checkpoint file"):
        load_published_generator(generator_file, 0)
    torch.save([1, 2], generator_file)
    with pytest.raises(ValueError, match="is not a state dict of the published program"):
        load_published_generator(generator_file, 0)
    with pytest.raises(ValueError, match="only the published 64x64 generator"):
        to_published("generator", build_generator(ModelConfig(imsize=32)).state_dict())
