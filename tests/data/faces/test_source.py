"""Drawn faces as a source: what it reads, how it is told apart, what it refuses."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sagan.data import Recipe, open_or_prepare
from sagan.data.faces.drawing import draw_face
from sagan.data.faces.source import FacesSource, holds_drawn_faces


def test_the_source_reads_rgb_images_of_its_size():
    source = FacesSource(count=30, size=48, seed=2)
    image = source.read(29)
    assert (image.mode, image.size, len(source)) == ("RGB", (48, 48), 30)
    assert np.array_equal(np.asarray(image), draw_face(29, 48, seed=2))
    assert source.name(3) != source.name(4)
    with pytest.raises(IndexError, match="0 to 29, got 30"):
        source.read(30)


def test_the_identity_tells_sources_apart():
    sources = [FacesSource(), FacesSource(count=9), FacesSource(size=32), FacesSource(seed=1)]
    assert len({source.identity for source in sources}) == 4
    assert FacesSource().identity == FacesSource().identity


def test_drawn_faces_have_no_classes():
    source = FacesSource(count=3, size=32)
    assert [source.class_of(i) for i in range(3)] == [None] * 3
    assert source.no_classes


@pytest.mark.parametrize("arguments", [{"count": 0}, {"seed": -1}, {"size": 8}])
def test_the_source_refuses_what_it_cannot_draw(arguments):
    with pytest.raises(ValueError, match="of drawn faces must be"):
        FacesSource(**arguments)


def test_threads_read_the_same_bytes():
    source = FacesSource(count=40, size=32)
    with ThreadPoolExecutor(4) as pool:
        together = [image.tobytes() for image in pool.map(source.read, range(40))]
    assert together == [source.read(index).tobytes() for index in range(40)]


@pytest.mark.parametrize("size", [0, 15, 257])
def test_the_source_refuses_the_sizes_that_are_not_drawn(size):
    with pytest.raises(ValueError, match=f"16 to 256 pixels, got {size}"):
        FacesSource(size=size)


def test_stores_of_an_earlier_version_say_that_they_are_drawn_by_their_identity(tmp_path):
    store = open_or_prepare(FacesSource(count=2, size=16), Recipe(16), tmp_path)
    assert store.meta.drawn_faces
    for identity, drawn in [(store.meta.identity, True), ("faces:0123abcd", False)]:
        earlier = dataclasses.replace(store.meta, identity=identity, drawn_faces=None)
        assert holds_drawn_faces(dataclasses.replace(store, meta=earlier)) == drawn
