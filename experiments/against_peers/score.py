"""Scores of probabilities, the same for every contender.

The scores are computed with scikit-image and NumPy, not with unet_jax, whose tests
compare both.

python score.py DATA RUN   prints the scores of the run in the folder RUN
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from data import Data, read
from scipy import ndimage, optimize
from skimage.measure import label as find_components
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

THRESHOLDS = np.arange(1, 10) / 10  # of the probability of a cell
IOUS = np.arange(50, 100, 5) / 100
SEED_DISTANCE = 5  # pixels between the seeds of two nuclei


def score(data: Data, probabilities: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns the scores of the test images of a benchmark, by name.

    Args:
      data: the benchmark.
      probabilities: `f32[*S, K]` of each test image.
    """
    truths = [sample.label for sample in data.test]
    dice = score_dice(truths, [p.argmax(-1) for p in probabilities], data.classes)
    if data.name == "isbi":
        foreground = [p[..., 1] for p in probabilities]
        return {**score_membranes(truths, foreground), **dice}
    if data.name == "nuclei":
        objects = [np.asarray(sample.instances) for sample in data.test]
        return {**score_nuclei(objects, [p[..., 1] for p in probabilities]), **dice}
    return dice


def score_membranes(
    truths: Sequence[np.ndarray], foreground: Sequence[np.ndarray]
) -> dict[str, float]:
    """Returns V_rand, V_info and the pixel error of ISBI 2012.

    Arganda-Carreras et al. 2015: the components of the cells above a threshold grow
    until one-pixel borders are left, and are compared with the components of the truth,
    inside of these. The threshold is the best one for the mean over the images. The
    pixel error is at 0.5.

    Args:
      truths: of each image, 0 = membrane and 1 = cell.
      foreground: the probability of a cell.
    """
    values = np.array(
        [
            [
                compare_segments(find_components(truth > 0, connectivity=1), p > t)
                for truth, p in zip(truths, foreground, strict=True)
            ]
            for t in THRESHOLDS
        ]
    )  # [thresholds, images, 2]
    rand, info = values.mean(1).max(0)
    pairs = zip(truths, foreground, strict=True)
    wrong = [np.mean((p > 0.5) != (truth > 0)) for truth, p in pairs]
    return {"v_rand": rand, "v_info": info, "pixel_error": float(np.mean(wrong))}


def compare_segments(segments: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Returns V_rand and V_info of a mask of cells, inside true segments.

    Args:
      segments: `i32[H, W]`, true segments, 0 = membrane.
      mask: `bool[H, W]`, the proposed cells.
    """
    proposed = grow_components(mask)
    border = np.flatnonzero(proposed == 0)  # each of its pixels is a segment of its own
    proposed.flat[border] = proposed.max() + 1 + np.arange(border.size)
    with np.errstate(invalid="ignore"):  # recall, which is unused, without any pair
        error, *_ = adapted_rand_error(segments, proposed, ignore_labels=(0,))
    split = variation_of_information(segments, proposed, ignore_labels=(0,)).sum()
    inside = segments > 0
    both = sum(_measure_entropy(part[inside]) for part in (segments, proposed))
    # the shared information is I, and the variation is H + H - 2 I
    return 1 - float(error), float((both - split) / both) if both else 1.0


def grow_components(mask: np.ndarray) -> np.ndarray:
    """Returns the components of a mask, grown until they are one pixel apart."""
    distance = ndimage.distance_transform_cdt(~mask, metric="taxicab")
    parts = find_components(mask, connectivity=1)
    return watershed(distance, parts, connectivity=1, watershed_line=True)


def score_nuclei(
    truths: Sequence[np.ndarray], foreground: Sequence[np.ndarray]
) -> dict[str, float]:
    """Returns the average precision of nuclei, with and without a watershed.

    Nuclei are the components of the foreground above 0.5, or its parts by a watershed
    on the distance to the background, for every contender alike.
    """
    scores = {}
    for suffix, find in (("", find_components), ("_watershed", divide_nuclei)):
        objects = [find(p > 0.5) for p in foreground]
        ap = score_average_precision(truths, objects)
        scores[f"ap50{suffix}"], scores[f"ap{suffix}"] = float(ap[0]), float(ap.mean())
    return scores


def divide_nuclei(mask: np.ndarray) -> np.ndarray:
    """Divides a mask into nuclei, by a watershed on the distance to the background."""
    from skimage.feature import peak_local_max

    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    peaks = peak_local_max(
        distance, min_distance=SEED_DISTANCE, labels=find_components(mask)
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.astype(np.intp).T)] = 1 + np.arange(len(peaks))
    return watershed(-distance, seeds, mask=mask)


def score_average_precision(
    truths: Sequence[np.ndarray], objects: Sequence[np.ndarray]
) -> np.ndarray:
    """Returns TP / (TP + FP + FN) over all images, at each of `IOUS`.

    The Data Science Bowl 2018 (Caicedo et al. 2019), with counts over the data set.
    Each object is in one pair at most, and there are as many pairs as possible.
    """
    found, true, predicted = np.zeros(len(IOUS)), 0, 0
    for truth, proposal in zip(truths, objects, strict=True):
        iou = measure_iou(truth, proposal)
        true, predicted = true + iou.shape[0], predicted + iou.shape[1]
        for i, least in enumerate(IOUS):
            match = iou >= least
            pairs = optimize.linear_sum_assignment(match, maximize=True)
            found[i] += match[pairs].sum()
    return found / np.maximum(true + predicted - found, 1)


def measure_iou(truth: np.ndarray, proposal: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each pair of objects, `f64[M, N]`."""
    ids, first = np.unique(truth, return_inverse=True)
    others, second = np.unique(proposal, return_inverse=True)
    count = np.zeros((ids.size, others.size))
    np.add.at(count, (first.ravel(), second.ravel()), 1)
    union = count.sum(1, keepdims=True) + count.sum(0, keepdims=True) - count
    return (count / union)[ids > 0][:, others > 0]


def score_dice(
    truths: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: Sequence[str]
) -> dict[str, float]:
    """Returns the Dice of each class over all pixels of the data set."""
    scores = {}
    for i, name in enumerate(classes):
        pairs = [(t == i, p == i) for t, p in zip(truths, labels, strict=True)]
        both = sum(np.sum(true & found) for true, found in pairs)
        size = sum(true.sum() + found.sum() for true, found in pairs)
        scores[f"dice_{name}"] = float(2 * both / size) if size else float("nan")
    return scores


def score_run(data: Data, folder: Path) -> dict[str, float]:
    """Returns the scores of a run: `v_rand`, and `v_rand_views` with its views."""
    scores = {}
    for kind, suffix in (("plain", ""), ("views", "_views")):
        paths = sorted((folder / kind).glob("*.npy"))
        if paths:
            found = score(data, [np.load(path) for path in paths])
            scores |= {f"{name}{suffix}": value for name, value in found.items()}
    return scores


def _measure_entropy(segments: np.ndarray) -> float:
    """Returns the entropy of a segmentation in bits."""
    _, counts = np.unique(segments, return_counts=True)
    p = counts / counts.sum()
    return float(-np.sum(p * np.log2(p)))


if __name__ == "__main__":
    for name, value in score_run(read(Path(sys.argv[1])), Path(sys.argv[2])).items():
        print(f"{name:24} {value:.4f}")
