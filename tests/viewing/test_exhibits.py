"""Which images a discriminator is shown; `tests/cli/test_attention.py` sees the rest."""

import numpy as np
import pytest
from PIL import Image

from sagan.run.config import Config, DataConfig, ModelConfig
from sagan.viewing.exhibits import read_images


@pytest.mark.parametrize(("dataset", "side"), [("celeb", 160), (None, 178)])
def test_real_images_are_cropped_as_those_of_the_run(dataset, side, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3)).astype(np.uint8))
    (tmp_path / "photos").mkdir()
    image.save(tmp_path / "photos" / "1.png")
    config = Config(DataConfig(dataset=dataset), ModelConfig(imsize=16))
    shown = read_images(tmp_path / "photos", config, seed=0, count=1)[0]
    left, top = (178 - side) // 2, (218 - side) // 2
    seen = image.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(shown.permute(1, 2, 0).numpy(), np.asarray(seen))
