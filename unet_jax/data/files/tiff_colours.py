"""The colours of a TIFF, from its header: which number is white, palettes, the way up.

The header may say that 0 is white. Programs that write so mean different things.
"""

import numpy as np
import tifffile

from unet_jax.data.files.upright import ORIENTATION, valid_orientation
from unet_jax.errors import UserError

PHOTOMETRIC, SOFTWARE = 262, 305  # tags
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # Photometric
JPEG = (6, 7, 34892, 33007)  # compressions whose decoders convert YCbCr to RGB
CCITT = (2, 3, 4, 32771)  # compressions of black and white, of which 0 is white
INVERTED = "inverted, because 0 is white in the TIFF header"
NOT_INVERTED = "not inverted, though 0 is white in the TIFF header, as {} writes it"


def check_colours(page: tifffile.TiffPage) -> None:
    """Raises UserError unless pages are grey, RGB, or have a palette."""
    decoded = page.photometric == YCBCR and page.compression in JPEG
    grey_or_rgb = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if page.photometric not in grey_or_rgb and not decoded:
        colours = getattr(page.photometric, "name", page.photometric)
        raise UserError(f"has the colours {colours}; save it as RGB or as grey")


def white_is_zero(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[bool, str]:
    """Returns True if unsigned numbers are to be inverted, and a note.

    They are if the header says that 0 is white, as for pages from a scanner, and for
    images that Pillow, MATLAB and libtiff write. There are two exceptions:

    - tifffile marks every boolean array so, and stores True as 1 nevertheless.
    - ImageJ marks images with an inverting look-up table so; their numbers stay.

    A header without this tag, which is not allowed, means black, but for the
    compressions of fax machines.
    """
    unsigned = page.dtype is not None and page.dtype.kind in "bu"
    grey = page.photometric == WHITE_IS_ZERO and page.samplesperpixel == 1
    if not (grey and unsigned):
        return False, ""
    if PHOTOMETRIC not in page.tags:
        fax = page.compression in CCITT
        return fax, INVERTED if fax else ""
    if file.is_imagej:
        return False, NOT_INVERTED.format("ImageJ")
    software = page.tags.valueof(SOFTWARE, default="")
    by_tifffile = str(software).startswith("tifffile") or file.is_shaped
    if page.bitspersample == 1 and by_tifffile:
        return False, NOT_INVERTED.format("tifffile")
    return True, INVERTED


def find_palette(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> np.ndarray | None:
    """Returns `u8[N, 3]`; some programs fill only 8 of the 16 bits of an entry."""
    page = series.keyframe
    if page.photometric != PALETTE or file.is_imagej:
        return None
    colours = np.asarray(page.colormap)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8).T


def find_orientation(page: tifffile.TiffPage) -> int:
    """Returns the orientation, 1 to 8; 1 if the tag is missing or invalid."""
    return valid_orientation(page.tags.valueof(ORIENTATION))
