"""The statements of a file header about its pixels: applied, and reported once."""

import json
import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import folder
from unet_jax.data.dataset_report import raise_errors
from unet_jax.errors import UserError

ROWS, COLUMNS = np.mgrid[:40, :64]
UPRIGHT = (ROWS * 4 + COLUMNS).astype(np.uint8)
MASK = (ROWS > 29) & (COLUMNS < 20)
STORE = {3: lambda a: np.rot90(a, 2), 6: np.rot90, 8: lambda a: np.rot90(a, -1)}
SHARES = {"val": 0.25, "test": 0.25}


def save(path, array, orientation=1):
    path.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(array))
    image.save(path, exif=exif, **({"quality": 97} if path.suffix == ".jpg" else {}))


def photographs(home, orientation, mask=MASK, mask_orientation=1):
    for i in range(8):
        # other images, so that they are no duplicates
        image = STORE[orientation](np.roll(UPRIGHT, 5 * i, 1))
        save(home / f"images/{i}.jpg", image, orientation)
        save(home / f"masks/{i}.png", np.uint8(mask) * 255, mask_orientation)
    return folder(root=str(home), **SHARES)


@pytest.mark.parametrize("orientation", STORE)
def test_photographs_are_turned_to_their_masks(tmp_path, orientation):
    splits = photographs(tmp_path, orientation)
    assert not splits.report.errors
    line = "images turned upright by the EXIF orientation: 8 (images/0.jpg, "
    assert [d for d in splits.report.decisions if d.startswith(line)]
    assert "EXIF" not in str(splits.report.issues)
    for record in splits.report.records:
        assert record.shape == (40, 64)
    record = splits.train.load(0)
    first = np.roll(UPRIGHT, 5 * int(record["id"]), 1)
    np.testing.assert_allclose(record["image"][..., 0], first.astype(int), atol=40)
    assert np.abs(record["image"][..., 0] - first.astype(int)).mean() < 4
    np.testing.assert_array_equal(record["label"], MASK)


def test_the_decision_is_kept_with_the_survey(tmp_path):
    splits = photographs(tmp_path, 6)
    (tmp_path / "survey.json").write_text(json.dumps(splits.notes["survey.json"]))
    again = folder(root=str(tmp_path), survey=str(tmp_path / "survey.json"), **SHARES)
    assert again.report.decisions == splits.report.decisions


def test_masks_are_turned_too(tmp_path):
    splits = photographs(tmp_path, 8, STORE[3](MASK), 3)
    assert not splits.report.errors
    lines = "\n".join(splits.report.decisions)
    assert "masks turned upright by the EXIF orientation: 8 (masks/0.png" in lines
    np.testing.assert_array_equal(splits.train.load(0)["label"], MASK)


@pytest.mark.parametrize("orientation", [6, 8])
def test_masks_of_the_stored_pixels_are_an_error_with_a_remedy(tmp_path, orientation):
    splits = photographs(tmp_path, orientation, STORE[orientation](MASK))
    with pytest.raises(UserError) as raised:
        raise_errors(splits.report)
    text = str(raised.value)
    assert "masks/0.png: the mask is 64 x 40, its image 40 x 64" in text
    assert f"only without the EXIF orientation ({orientation}) of images/0.jpg" in text
    assert "exiftool -Orientation= 0.jpg" in text


def test_boolean_masks_of_tifffile_are_not_inverted(tmp_path):
    for i in range(8):
        save(tmp_path / f"images/{i}.png", np.roll(UPRIGHT, 5 * i, 1))
        os.makedirs(tmp_path / "masks", exist_ok=True)
        tifffile.imwrite(tmp_path / f"masks/{i}.tif", MASK)
    splits = folder(root=str(tmp_path), **SHARES)
    np.testing.assert_array_equal(splits.train.load(0)["label"], MASK)
    (line,) = [d for d in splits.report.decisions if "TIFF" in d]
    assert line.startswith("masks not inverted, though 0 is white in the TIFF header")
    assert line.endswith("8 (masks/0.tif, masks/1.tif, masks/2.tif and 5 more)")


def test_a_pipe_is_one_line(tmp_path):
    for i in range(8):
        save(tmp_path / f"images/{i}.png", np.roll(UPRIGHT, 5 * i, 1))
        save(tmp_path / f"masks/{i}.png", np.uint8(MASK) * 255)
    os.remove(tmp_path / "images/3.png")
    os.mkfifo(tmp_path / "images/3.png")
    report = folder(root=str(tmp_path), **SHARES).report
    (error,) = report.errors
    assert error.text.startswith("images/3.png: is a named pipe, not an image file")
