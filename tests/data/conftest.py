import pytest

import sagan.data.partial as module


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of four images, so that thirty are enough for many of them."""
    monkeypatch.setattr(module, "CHUNK_IMAGES", 4)
