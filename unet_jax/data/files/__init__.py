"""Reads image files in windows, and writes results in the format of the input.

with files.open_images(path, axes=2) as file:
    for rows, band in files.read_bands(file, image=0): ...
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
    read_bands,
)
from unet_jax.data.files.names import (
    ENDINGS,
    WILDCARD,
    check_folder,
    ending,
    expand_glob,
    find_fault,
    find_image_fault,
    find_images,
    is_image,
    is_image_candidate,
    is_system_file,
    other_files,
    split_glob,
    stem,
    unique_stems,
)
from unet_jax.data.files.read import decode_image, decode_tiff, open_images
from unet_jax.data.files.tiff_axes import (
    check_order,
    describe_stored,
    suggest_channels,
    suggest_order,
)
from unet_jax.data.files.write import ImageWriter, write_images

__all__ = [
    "ENDINGS",
    "WILDCARD",
    "ImageFile",
    "ImageWriter",
    "channel_converter",
    "check_folder",
    "check_order",
    "convert_channels",
    "decode_image",
    "decode_tiff",
    "describe_stored",
    "ending",
    "expand_glob",
    "find_fault",
    "find_image_fault",
    "find_images",
    "is_image",
    "is_image_candidate",
    "is_system_file",
    "open_images",
    "other_files",
    "read_bands",
    "split_glob",
    "stem",
    "suggest_channels",
    "suggest_order",
    "unique_stems",
    "write_images",
]
