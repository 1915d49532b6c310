import dataclasses
import threading

import pytest
import torch

from sagan.core.sampling import generate, numbered_images
from sagan.evaluation.extractors.efficientnet import PACKAGES
from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.image_sets import draw_ahead, generated_images, read_ahead
from sagan.evaluation.reference import open_reference
from sagan.evaluation.scoring import extract, score_images
from sagan.run.build import build_generator
from sagan.system.console import Console
from tests.evaluation.conftest import CONFIG, silent, switches

CPU = torch.device("cpu")


def make_generator(**changes):
    generator = build_generator(dataclasses.replace(CONFIG.model, **changes), seed=3).eval()
    for layer in generator.attention.values():
        torch.nn.init.ones_(layer.gamma)
    return generator


def drawn(generator, count=100, seed=5, device=CPU):
    return generated_images(generator, count, seed, device=device, name="tests")


@pytest.mark.parametrize("changes", [{}, {"network": "resnet", "num_classes": 3}])
def test_drawn_images_are_those_that_sample_writes(changes):
    generator = make_generator(**changes)
    expected = torch.stack([image for _, image in numbered_images(generator, 5, range(100), device=CPU)])
    found = torch.cat([batch for _, batch in drawn(generator).batches(30)])
    assert (found.int() - expected.int()).abs().max() <= 1
    assert torch.equal(drawn(generator).read(30, 60), drawn(generator).sample(30, 60))


@pytest.mark.parametrize("draw", [lambda g, z: generate(g, z), lambda g, z: drawn(g, len(z)).read(0, len(z))])
def test_images_are_drawn_in_plain_float32_whatever_is_switched_on(draw, request):
    generator, seen = make_generator(), []
    calm = draw(generator, torch.ones(4, 4))
    hasty = request.getfixturevalue("hasty")
    generator.register_forward_pre_hook(lambda *_: seen.append(switches()))
    assert torch.equal(draw(generator, torch.ones(4, 4)), calm)
    assert seen == [["ieee", "ieee", "ieee", "ieee", False, True, False]]
    assert switches() == hasty


@pytest.mark.parametrize("batch_size", [1, 7, 250])
def test_a_score_does_not_depend_on_the_size_of_the_batches(batch_size, reference, extractor):
    other = dataclasses.replace(extractor, batch_size=batch_size)
    images = drawn(make_generator(), 300)
    (one, _), (two, _) = (
        score_images([images], reference, each, progress=silent, warn=lambda s: None) for each in (extractor, other)
    )
    assert [score.value for score in two] == pytest.approx([score.value for score in one], rel=1e-4, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["random-conv", "efficientnet-lite0"])
def test_drawing_and_extracting_do_not_wait_for_the_gpu(name):
    if name != "random-conv":
        pytest.importorskip(PACKAGES[0], reason="needs the extra features")
    extractor = load_extractor(name, device="cuda")
    images = drawn(make_generator(), 3 * extractor.batch_size, device=torch.device("cuda"))
    extract(images, extractor, silent)  # whatever is made at the first use
    waited = []

    def notice(done, total):
        waited.append(done)
        torch.cuda.set_sync_debug_mode("error" if done < total else "default")

    try:
        extract(images, extractor, notice)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waited) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["random-conv", "efficientnet-lite0"])
def test_a_score_on_the_gpu_is_that_on_the_cpu(name, faces, tmp_path):
    if name != "random-conv":
        pytest.importorskip(PACKAGES[0], reason="needs the extra features")
    values = []
    for device in ("cpu", "cuda"):
        extractor = load_extractor(name, device=device)
        real = open_reference(faces, extractor, tmp_path / device, Console(quiet=True))
        for images in (drawn(make_generator(), 300, device=torch.device(device)), faces):
            scores, _ = score_images([images], real, extractor, progress=silent, warn=lambda s: None)
            values.append([score.value for score in scores])
    assert values[2] == pytest.approx(values[0], rel=1e-4, abs=1e-6)
    assert values[3] == pytest.approx(values[1], rel=1e-4, abs=1e-6)


@pytest.mark.gpu
def test_images_that_are_no_numbers_are_refused_at_the_end_on_a_gpu():
    generator = make_generator()
    torch.nn.init.constant_(generator.last.weight, torch.nan)
    images = drawn(generator, 600, device=torch.device("cuda"))
    with pytest.raises(ValueError, match="the generator's images are NaN or infinite"):
        extract(images, load_extractor("random-conv", device="cuda"), silent)


# ---- the next batch, made while the last one is in use


def numbered(count, made):
    for number in range(count):
        made.append(number)
        yield number, torch.full((2,), number)


def test_the_same_batches_come_in_the_same_order():
    assert [(number, values.tolist()) for number, values in read_ahead(numbered(5, []))] == [
        (number, [number, number]) for number in range(5)
    ]
    assert list(read_ahead(numbered(0, []))) == []


def test_the_next_batch_is_read_while_one_is_worked_on_and_no_more():
    made, read = [], threading.Event()

    def batches():
        for batch in numbered(9, made):
            if batch[0] == 1:
                read.set()
            yield batch

    ahead = read_ahead(batches())
    next(ahead)
    assert read.wait(10)
    assert made == [0, 1]
    ahead.close()
    assert made == [0, 1]


def test_an_error_of_the_reader_is_raised_where_the_batches_are_used():
    def batches():
        yield 0, torch.zeros(1)
        raise ValueError("the disk is gone")

    found = []
    with pytest.raises(ValueError, match="the disk is gone"):
        found.extend(read_ahead(batches()))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.gpu
def test_what_is_drawn_on_a_gpu_is_whole_when_it_is_used():
    def batches():
        for number in range(20):
            drawn = torch.ones(512, 512, device="cuda")
            for _ in range(20):
                drawn = drawn @ drawn / 512
            yield number, drawn * number

    sums = [values.sum() for _, values in draw_ahead(batches(), torch.device("cuda"))]
    assert [value.item() for value in sums] == [512 * 512 * number for number in range(20)]
