"""The canvas: shapes cover as much of the pixels as they should."""

import numpy as np
import pytest

from sagan.data.faces.canvas import image_canvas


def test_a_line_thinner_than_a_pixel_keeps_its_weight():
    canvas = image_canvas(32)
    for half_width in (0.005, 0.02, 0.1):
        covered = canvas.stroke(np.abs(canvas.x - 0.11), half_width).sum(1) * canvas.pixel
        assert covered == pytest.approx(2 * half_width, rel=0.01)
