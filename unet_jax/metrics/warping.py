"""The warping error: the disagreement that no shift of borders removes.

Jain et al. 2010, 'Boundary learning by optimization with topological constraints'. The
true foreground is warped towards the predicted one by flipping pixels whose flip does
not change the topology. Pixels that still disagree belong to cells or holes that are
split, merged, missed or falsely predicted. Unit: the share of the annotated pixels.
"""

import numpy as np

from unet_jax.metrics.metric import OVER_PIXELS, EvaluatedImage, Metric
from unet_jax.metrics.scores import score_ratio

__all__ = ["warping_error"]

# The eight neighbours of a pixel in a circle, faces and corners alternating.
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def warping_error() -> Metric:
    """Measures the share of pixels that are wrong after the warp (Jain et al. 2010).

    Cells are connected through faces, the background through faces and corners. Outside
    the image there is background. Pixels without an annotation are background and are
    not counted. Volumes are processed slice by slice along their first axis, as in the
    ISBI 2012 challenge. Only wrong pixels flip, so a border too far from the true one
    to overlap it costs as much as a merger and a split. The result depends on the order
    of the flips where several warps are possible: other programs can differ by a few
    pixels.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        annotated = image.fully_annotated
        prediction = image.predicted_foreground
        wrong = warp_towards(image.true_foreground, prediction) != prediction
        return np.array([wrong.sum(), annotated.sum()])

    return Metric(measure, score_ratio, OVER_PIXELS, lower=True)


def warp_towards(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Flips simple points of the source that differ from the target until none is left.

    Args:
      source: `bool[*S]`. The last two axes are a plane, the others count planes.
      target: `bool[*S]`.

    Returns:
      `bool[*S]`, with the topology of the source in every plane.
    """
    plane = (1, *source.shape)[-2:]
    pads = ((0, 0), (1, 1), (1, 1))
    padded = np.pad(source.reshape(-1, *plane), pads)
    pixels, goal = padded.ravel(), np.pad(target.reshape(-1, *plane), pads).ravel()
    _, height, width = padded.shape
    ring = np.array([row * width + column for row, column in _RING])

    wrong = np.flatnonzero(pixels != goal)
    # Pixels of one lattice are never neighbours, so all of them can flip at once.
    lattice = 2 * (wrong // width % height % 2) + wrong % width % 2
    lattices = [wrong[lattice == k] for k in range(4)]
    flipped = True
    while flipped:
        flipped = False
        for k, wrong in enumerate(lattices):
            around = np.packbits(pixels[wrong[:, None] + ring], 1, bitorder="little")
            simple = _SIMPLE[around[:, 0]]
            pixels[wrong[simple]] ^= True
            lattices[k] = wrong[~simple]
            flipped |= bool(simple.any())
    warped = pixels.reshape(padded.shape)[:, 1:-1, 1:-1]
    return warped.reshape(source.shape)


def _find_simple_codes() -> np.ndarray:
    """Returns which pixels are simple, by their eight neighbours as bits: `bool[256]`.

    A pixel is simple if its connectivity number is 1 (Yokoi et al. 1975, for connection
    through faces). It then touches one cell and one background, before and after the
    flip.
    """
    ring = np.arange(256)[:, None] >> np.arange(8) & 1
    face, corner = ring[:, ::2], ring[:, 1::2]
    following = np.roll(face, -1, axis=1)
    return (face - face * corner * following).sum(axis=1) == 1


_SIMPLE = _find_simple_codes()
