"""Small folders of images and masks."""

import numpy as np
import pytest
from PIL import Image


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture
def home(tmp_path):
    """Ten noisy images of 24 x 20, and masks of 0 and 255 with a square in them."""
    rng = np.random.default_rng(0)
    for i in range(10):
        mask = np.zeros((24, 20))
        mask[4 : 10 + i, 3:12] = 255
        image = rng.integers(0, 100, (24, 20)) + mask / 2
        save(tmp_path / f"images/{i}.png", image)
        save(tmp_path / f"masks/{i}.png", mask)
    return tmp_path
