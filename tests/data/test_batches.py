"""Batches: a pure function of their number, every image once an epoch, parts together equal to the whole."""

import os

import numpy as np
import pytest
import torch

from sagan.data.batches import Batches
from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.evaluation.image_sets import store_images
from sagan.system.errors import UserError

COUNT, SIZE = 23, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(COUNT)  # so that an image tells its number


def shuffled(epoch: int) -> torch.Tensor:
    return torch.randperm(COUNT, generator=torch.Generator().manual_seed(1000 + epoch))


def numbers(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_a_batch_holds_the_images_that_the_permutation_names():
    batch = Batches(IMAGES, 5, shuffled).batch(6)  # epoch 1, its third batch
    chosen = shuffled(1)[10:15]
    assert batch.shape == (5, 3, SIZE, SIZE)
    assert batch.dtype == torch.float32
    assert numbers(batch) == chosen.tolist()
    expected = IMAGES[chosen.numpy()].transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1
    assert np.abs(batch.numpy() - expected).max() < 1e-6


def test_black_is_minus_one_and_white_is_one_exactly():
    images = np.zeros((2, 1, 1, 3), np.uint8)
    images[1] = 255
    batch = Batches(images, 2, lambda epoch: torch.arange(2)).batch(0)
    assert batch[0].unique().tolist() == [-1.0]
    assert batch[1].unique().tolist() == [1.0]


@pytest.mark.parametrize("resident", [None, False, True])
def test_a_batch_is_a_pure_function_of_its_number(resident):
    batches, fresh = (Batches(IMAGES, 5, shuffled, resident=resident) for _ in range(2))
    straight = [batches.batch(i) for i in range(12)]
    for i in (11, 0, 7, 7, 3, 4, 10):
        assert torch.equal(fresh.batch(i), straight[i])
    straight[0].zero_()  # what the caller does to a batch does not reach the store
    assert not torch.equal(batches.batch(0), straight[0])
    assert batches.resident == bool(resident)


def test_every_image_comes_at_most_once_an_epoch_and_the_rest_is_dropped():
    batches = Batches(IMAGES, 5, shuffled)
    assert batches.batches_per_epoch == 4
    for epoch in range(3):
        seen = [number for i in range(4) for number in numbers(batches.batch(4 * epoch + i))]
        assert len(set(seen)) == len(seen) == 20
        assert seen == shuffled(epoch)[:20].tolist()
    whole = Batches(IMAGES, COUNT, shuffled)
    assert sorted(numbers(whole.batch(5))) == list(range(COUNT))


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_parts_together_are_the_whole(size):
    batches = Batches(IMAGES, 6, shuffled)
    parts = [slice(rank * 6 // size, (rank + 1) * 6 // size) for rank in range(size)]
    for i in range(7):
        assert torch.equal(torch.cat([batches.batch(i, part) for part in parts]), batches.batch(i))


def test_a_memory_map_gives_what_an_array_gives(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for resident in (False, True):
        assert torch.equal(
            Batches(mapped, 5, shuffled, resident=resident).batch(9), Batches(IMAGES, 5, shuffled).batch(9)
        )


def test_channels_last_changes_the_memory_and_not_the_values():
    plain = Batches(IMAGES, 5, shuffled).batch(1)
    other = Batches(IMAGES, 5, shuffled, channels_last=True).batch(1)
    assert plain.is_contiguous()
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, other)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("resident", [False, True])
def test_labels_are_those_of_the_images_in_every_epoch_and_part(dtype, size, resident, tmp_path):
    np.save(tmp_path / "labels.npy", (np.arange(COUNT) ** 2 % 7).astype(dtype))
    labels = np.load(tmp_path / "labels.npy", mmap_mode="r")
    batches = Batches(IMAGES, 6, shuffled, "cpu", resident, labels=labels)
    for part in (slice(rank * 6 // size, (rank + 1) * 6 // size) for rank in range(size)):
        for i in (0, 1, 2, 3, 8, 4, 11, 0):  # of four epochs
            given = batches.labels(i, part)
            assert (given.dtype, given.shape) == (torch.int64, (6 // size,))
            assert given.tolist() == [number**2 % 7 for number in numbers(batches.batch(i, part))]


def test_what_the_caller_does_to_labels_does_not_reach_the_store():
    labels = np.arange(COUNT)
    batches = Batches(IMAGES, 5, shuffled, labels=labels)
    batches.labels(0).zero_()
    assert np.array_equal(labels, np.arange(COUNT))
    assert batches.labels(0).tolist() == numbers(batches.batch(0))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(22, np.int64), r"labels must be whole numbers of shape \(23,\), .* got int64 of shape \(22,\)"),
        (np.zeros((23, 1), np.int64), r"got int64 of shape \(23, 1\)"),
        (np.zeros(23), "got float64"),
        (np.arange(23) - 1, "labels must be 0 or more, got -1"),
    ],
)
def test_labels_that_do_not_fit_the_images_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        Batches(IMAGES, 5, shuffled, labels=labels)


def test_labels_asked_of_batches_without_them_are_refused():
    with pytest.raises(ValueError, match="these batches have no labels"):
        Batches(IMAGES, 5, shuffled).labels(0)


def test_an_order_that_is_no_permutation_is_refused():
    for order in (torch.zeros(COUNT, dtype=torch.int64), torch.arange(COUNT - 1)):
        batches = Batches(IMAGES, 5, lambda epoch, order=order: order)
        with pytest.raises(ValueError, match=r"permutation\(0\) does not hold each of 0\.\.22 exactly once"):
            batches.batch(0)


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (IMAGES, 24, "batch_size is 24 but the data set has only 23 images: use a batch_size of 23 or less"),
        (IMAGES, 0, "batch_size must be 1 or more, got 0"),
        (IMAGES.astype(np.float32), 4, "got float32"),
        (IMAGES[..., :2], 4, r"with 1, 3 or 4 channels, got uint8 of shape \(23, 4, 4, 2\)"),
    ],
)
def test_what_cannot_be_batched_is_refused(images, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Batches(images, batch_size, shuffled)


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="numbered from 0, got -1"):
        Batches(IMAGES, 5, shuffled).batch(-1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_images_live_there_and_the_batches_are_the_same():
    batches = Batches(IMAGES, 5, shuffled, device="cuda")
    assert batches.resident
    streamed = Batches(IMAGES, 5, shuffled, device="cuda", resident=False)
    for i in (0, 3, 9):
        assert batches.batch(i).is_cuda
        assert torch.equal(batches.batch(i), streamed.batch(i))
        assert (batches.batch(i).cpu() - Batches(IMAGES, 5, shuffled).batch(i)).abs().max() < 1e-6


def test_images_that_are_cut_while_they_are_read_are_a_sentence(tmp_path):
    """Reading past the end of a memory map's file would end the process."""
    np.save(tmp_path / "set.npy", IMAGES)
    store = prepare(open_source(tmp_path / "set.npy"), Recipe(SIZE), tmp_path / "store")
    batches = Batches(store.images, 5, shuffled)
    assert np.array_equal(batches.batch(0), Batches(IMAGES, 5, shuffled).batch(0))
    os.truncate(store.folder / "images.npy", 200)
    for read in (lambda: batches.batch(1), lambda: store_images(store).read(0, 1)):
        with pytest.raises(UserError, match=r"images.npy was cut while it was read \(it has 200 bytes instead of"):
            read()
