"""Reads image files in windows, and writes results in the format of the input.

with files.open_images(path, axes=2) as file:
    with files.write_images(folder, name, file, "u1") as writer:
        for image in range(file.count):
            block = file.read(image, [slice(0, 512), slice(0, file.shape[1])])
            ...
            writer.write(labels)
"""

from unet_jax.data.files.image_file import (
    ImageFile,
    channel_converter,
    convert_channels,
)
from unet_jax.data.files.names import (
    ENDINGS,
    ending,
    find_images,
    is_image,
    other_files,
    stem,
    unique_stems,
)
from unet_jax.data.files.read import decode_image, decode_tiff, open_images
from unet_jax.data.files.write import ImageWriter, write_images

__all__ = [
    "ENDINGS",
    "ImageFile",
    "ImageWriter",
    "channel_converter",
    "convert_channels",
    "decode_image",
    "decode_tiff",
    "ending",
    "find_images",
    "is_image",
    "open_images",
    "other_files",
    "stem",
    "unique_stems",
    "write_images",
]
