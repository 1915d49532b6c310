import pytest
import torch

from sagan.evaluation.extractors.efficientnet import PACKAGES
from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.extractors.table import load_extractor
from tests.evaluation.conftest import noise, switches


def spy_extractor(look, device="cpu"):
    """An extractor that calls ``look(images)`` with every batch and returns the mean of each image."""

    def forward(images):
        look(images)
        return images.float().mean((1, 2, 3))[:, None], None

    return FeatureExtractor(
        name="spy",
        qualifier="(spy)",
        dim=1,
        weights_sha256=None,
        resize="none",
        has_logits=False,
        device=torch.device(device),
        forward=forward,
    )


def test_what_comes_out(extractor):
    features, logits = extractor.with_logits(noise(5))
    assert features.shape == (5, extractor.dim)
    assert extractor.has_logits
    assert logits.shape[0] == 5
    assert features.dtype == logits.dtype == torch.float32
    assert not features.requires_grad
    assert not features.is_inference()  # so that a metric may change it in place
    assert torch.equal(extractor(noise(5)), features)
    assert features.std(0).max() > 0.01  # other images, other features


def test_the_network_sees_batches_of_its_own():
    sizes = []
    extractor = spy_extractor(lambda images: sizes.append(len(images)))
    images = noise(70, size=4)
    together = extractor(images)
    assert sizes == [32, 32, 6]
    torch.testing.assert_close(together[:, 0], images.float().mean((1, 2, 3)))


@pytest.mark.parametrize("cuts", [[1, 69], [35, 35], [31, 33, 6]])
def test_features_do_not_depend_on_the_callers_batches(extractor, cuts):
    images = noise(70)
    together, logits = extractor.with_logits(images)
    parts = [extractor.with_logits(part) for part in images.split(cuts)]
    torch.testing.assert_close(torch.cat([features for features, _ in parts]), together, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), logits, rtol=1e-4, atol=1e-6)


def test_two_loads_are_one_extractor(extractor):
    again = load_extractor("random-conv")
    assert again.weights_sha256 == extractor.weights_sha256
    assert torch.equal(again(noise(3)), extractor(noise(3)))


def test_neither_loading_nor_calling_moves_the_global_random_state():
    before = torch.random.get_rng_state()
    load_extractor("random-conv")(noise(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 8, 8), "must be uint8, 0 to 255, got torch.float32: round them"),
        (noise(2).int(), "must be uint8, 0 to 255, got torch.int32"),
        (noise(2)[:, :1], "got grey images of shape .2, 1, 16, 16.: repeat the channel 3 times"),
        (noise(2).permute(0, 2, 3, 1), "must have 3 channels .n, 3, height, width., got shape .2, 16, 16, 3."),
        (noise(2)[0], "must have 4 dimensions .n, 3, height, width., got shape .3, 16, 16."),
        (noise(2)[:0], "must be one or more, of one or more pixels, got shape .0, 3, 16, 16."),
        (noise(2)[..., :0], "must be one or more, of one or more pixels"),
    ],
)
def test_what_is_not_a_batch_of_colour_images_is_refused(extractor, images, message):
    with pytest.raises(ValueError, match=message):
        extractor(images)


def test_inside_it_is_plain_float32_and_the_switches_are_put_back(hasty):
    seen = []
    spy_extractor(lambda images: seen.append(switches()))(noise(2))
    assert hasty == ["tf32", "tf32", "bf16", "bf16", True, False, True]
    assert seen == [["ieee", "ieee", "ieee", "ieee", False, True, False]]
    assert switches() == hasty


def test_the_switches_are_put_back_after_an_error_too(hasty):
    def fail(images):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        spy_extractor(fail)(noise(2))
    assert switches() == hasty


def test_features_are_the_same_whatever_is_switched_on(extractor, request):
    calm = extractor(noise(4))
    request.getfixturevalue("hasty")
    assert torch.equal(extractor(noise(4)), calm)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["random-conv", "efficientnet-lite0"])
def test_the_gpu_computes_what_the_cpu_computes(name):
    if name != "random-conv":
        pytest.importorskip(PACKAGES[0], reason="needs the extra features")
    images = noise(40, size=64)
    on_cpu = load_extractor(name)(images)
    on_gpu = load_extractor(name, device="cuda")
    for given in (images, images.cuda()):
        found = on_gpu(given)
        assert found.is_cuda
        assert ((found.cpu() - on_cpu).norm() / on_cpu.norm()).item() < 1e-4
