"""How the builders here store a record: what `prepared.py` reads back."""

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unet_jax.arrays import IGNORE
from unet_jax.data.builders.archive import line
from unet_jax.data.files import tiff
from unet_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

UNLABELLED = 255  # in the stored label, as a PNG cannot hold -1
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX")  # Pillow's modes
PIXELS = 2**26  # of one image, over all its pages: bounds what a small file inflates to


def features(
    classes: tuple[str, ...], *, channels: int, instances: bool
) -> "tfds.features.FeaturesDict":
    """What TFDS stores: PNG bytes, and 16-bit object ids compressed by zlib."""
    import tensorflow_datasets as tfds

    shape = (None, None, 1)
    stored = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, channels)),
        "label": tfds.features.LabeledImage(labels=list(classes), shape=shape),
    }
    if instances:
        stored["instances"] = tfds.features.Tensor(
            shape=shape, dtype=np.uint16, encoding="zlib"
        )
    return tfds.features.FeaturesDict(stored)


def stored(
    name: str,
    image: np.ndarray,
    label: np.ndarray,
    instances: np.ndarray | None = None,
) -> dict[str, Any]:
    """One record: image `u8[H, W]` or `u8[H, W, 3]`, label, object ids below 2^16."""
    label = np.where(label == IGNORE, UNLABELLED, label).astype(np.uint8)
    record = {"id": name, "image": png(image), "label": png(label)}
    if instances is not None:
        record["instances"] = instances.astype(np.uint16)[..., None]
    return record


def png(image: np.ndarray) -> bytes:
    """`u8[H, W]` or `u8[H, W, 3]` as a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def decoded(where: str, content: bytes) -> np.ndarray:
    """The pixels of a PNG or JPEG, `[H, W, C]`, C 1 or 3; alpha is dropped.

    They have 8 bits, or 16 in grey; what has a palette is in colour.

    Raises:
      UserError: it is damaged, too large, or has other colours; the line begins with
        `where`.
    """
    return _through_pillow(where, content, _colours)


def indices(where: str, content: bytes) -> np.ndarray:
    """The pixels of a mask as its PNG has them; of a palette, the indices: `[H, W]`.

    Raises:
      UserError: as `decoded` does.
    """
    return _through_pillow(where, content, np.array)


def decoded_tiff(where: str, content: bytes) -> np.ndarray:
    """The grey pixels of all pages of a TIFF, `[N, H, W]`.

    Raises:
      UserError: it is damaged, too large, or in colour; the line begins with `where`.
    """
    try:
        with tiff.opened(io.BytesIO(content), axes=2) as grid:
            _check_pixels(grid.count * grid.channels * math.prod(grid.shape))
            whole = [slice(0, size) for size in grid.shape]
            pages = np.stack([grid.read(i, whole) for i in range(grid.count)])
    except Exception as error:  # tifffile too
        raise UserError(f"{where} is no TIFF ({line(error)})") from error
    if pages.shape[-1] > 1:
        raise UserError(
            f"{where} has {pages.shape[-1]} channels, where one is expected"
        )
    return pages[..., 0]


def _through_pillow(
    where: str, content: bytes, read: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_pixels(image.width * image.height)
            return read(image)
    except Exception as error:  # Pillow raises what its many decoders raise
        raise UserError(f"{where} is no image ({line(error)})") from error


def _colours(image: Image.Image) -> np.ndarray:
    if image.mode in GREY:
        return np.array(image.convert("L"))[..., None]
    if image.mode in COLOUR:
        return np.array(image.convert("RGB"))
    if image.mode == "I;16":
        return np.array(image)[..., None]
    raise UserError(f"its colours are {image.mode}, neither grey nor RGB")


def _check_pixels(count: int) -> None:
    if count > PIXELS:
        raise UserError(f"it has {count} pixels, more than {PIXELS}")
