"""The warping error: what no shift of the borders can mend.

Jain et al. 2010, 'Boundary learning by optimization with topological constraints'. The
true foreground is warped towards the predicted one by turning pixels whose turning
changes no topology; where the two still disagree, cells are split or merged, or whole
cells or holes are missing or too many. Unit: a fraction of the annotated pixels.
"""

import numpy as np

from unet_jax.metrics import foreground
from unet_jax.metrics.metric import EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan

# The eight neighbours around a pixel, faces and corners in turn.
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def warping_error() -> Metric:
    """The fraction of pixels that are wrong after the warp (Jain et al. 2010).

    Cells are connected through faces and what parts them through corners too; beyond
    the image there is background. Pixels that nobody annotated are background and not
    counted. Volumes are taken slice by slice along their first axis, as the ISBI 2012
    challenge does. Only wrong pixels turn, so a border too far away to overlap the true
    one costs as a merger and a split do. Which pixels turn first decides between warps
    that are equally legal: other programs differ by a few pixels.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        annotated = foreground.get_annotated(image)
        truth, prediction = (
            foreground.get_truth(image),
            foreground.get_prediction(image),
        )
        wrong = warp_towards(truth, prediction) != prediction
        return np.array([wrong.sum(), annotated.sum()])

    def score(sums: np.ndarray) -> Score:
        return Score(float(divide_or_nan(*sums)))

    return Metric(measure, score, "over all pixels", lower=True)


def warp_towards(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turns simple points of the source, as long as that brings it nearer the target.

    Args:
      source: `bool[*S]`; its last two axes are a plane, the others count planes.
      target: the same shape.

    Returns:
      `bool[*S]`, of the topology of the source in every plane.
    """
    plane = (1, *source.shape)[-2:]
    pads = ((0, 0), (1, 1), (1, 1))
    padded = np.pad(source.reshape(-1, *plane), pads)
    pixels, goal = padded.ravel(), np.pad(target.reshape(-1, *plane), pads).ravel()
    _, height, width = padded.shape
    ring = np.array([row * width + column for row, column in _RING])

    wrong = np.flatnonzero(pixels != goal)
    # Pixels of one lattice are never neighbours: all of them can turn at once.
    lattice = 2 * (wrong // width % height % 2) + wrong % width % 2
    lattices = [wrong[lattice == k] for k in range(4)]
    turned = True
    while turned:
        turned = False
        for k, wrong in enumerate(lattices):
            around = np.packbits(pixels[wrong[:, None] + ring], 1, bitorder="little")
            simple = _SIMPLE[around[:, 0]]
            pixels[wrong[simple]] ^= True
            lattices[k] = wrong[~simple]
            turned |= bool(simple.any())
    warped = pixels.reshape(padded.shape)[:, 1:-1, 1:-1]
    return warped.reshape(source.shape)


def _find_simple_codes() -> np.ndarray:
    """`bool[256]`: whether a pixel may turn, by its neighbours as bits along the ring.

    It may if its connectivity number is 1 (Yokoi et al. 1975, for connection through
    faces): it then touches one cell and one background, before and after.
    """
    ring = np.arange(256)[:, None] >> np.arange(8) & 1
    face, corner = ring[:, ::2], ring[:, 1::2]
    following = np.roll(face, -1, axis=1)
    return (face - face * corner * following).sum(axis=1) == 1


_SIMPLE = _find_simple_codes()
