"""Opens the images of a file, whatever its format, or says in one line why not."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unet_jax.data.files import names, nifti, pillow, tiff, zarr
from unet_jax.data.files.grid import Box, Grid, check, coloured, size, volume
from unet_jax.errors import UserError, prefix_errors

OPENERS = {
    names.IMAGES: pillow.opened,
    names.TIFFS: tiff.opened,
    names.VOLUMES: nifti.opened,
    names.FOLDERS: zarr.opened,
}


LIMIT = 2**34  # bytes that are read at once


@contextlib.contextmanager
def opened(path: Path, *, axes: int, indices: bool = False) -> Iterator[Grid]:
    """Opens a file for a network of 2 or 3 spatial axes.

    Args:
      path: the file.
      axes: 2 of images, 3 of volumes.
      indices: whether to leave the numbers of a palette as they are, as a mask means
        them, and not to read the colours that they stand for. Of a palette of shades
        of grey, such as white and black, the shades are read in any case.

    Raises:
      UserError: there is no such file, its ending is unknown, it is damaged, it is not
        what its ending says, or the network cannot take it. The grid's `read` raises
        it where the damage is found later.
    """
    with contextlib.ExitStack() as stack:
        with _reading(path):
            grid = stack.enter_context(_opener(path)(path, axes))
            grid = grid if indices and not _is_grey(grid.palette) else coloured(grid)
            check(grid)

        def read(image: int, box: Box) -> np.ndarray:
            with _reading(path):
                nbytes = volume((*size(box), grid.channels), grid.dtype)
                if nbytes > LIMIT:  # which an OME-Zarr without chunks would make up
                    raise UserError(
                        f"{nbytes} bytes of it are too many at once, the most is "
                        f"{LIMIT}; cut it into smaller images"
                    )
                return grid.read(image, box)

        yield grid._replace(read=read)


def _is_grey(palette: np.ndarray | None) -> bool:
    return palette is not None and bool((palette == palette[:, :1]).all())


def _opener(path: Path) -> contextlib.AbstractContextManager:
    path.stat()  # raises what is wrong with the path, before an ending is blamed
    found = names.ending(path)
    for endings, opener in OPENERS.items():
        if found in endings:
            return opener
    what = "is a folder, and no OME-Zarr" if path.is_dir() else "has an unknown ending"
    raise UserError(f"{what}; known endings are {', '.join(names.ENDINGS)}")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a library raises at a file into one line that names it."""
    try:
        with prefix_errors(str(path)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{path}: takes more memory than there is; save it in smaller pieces"
        ) from error
    except Exception as error:  # broken files make libraries raise almost anything
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        words = " ".join(words.replace(f" '{path}'", "").split())[:200]
        raise UserError(
            f"{path}: cannot be read ({words}); check the file, or save it again"
        ) from error
