"""Counts of missed, invented, merged and split objects, by hand and by loops."""

import numpy as np
import pytest

from unet_jax.metrics.object_errors import ObjectErrors, count_object_errors


def count(make_image, truth, prediction):
    """The errors of rows of ids, one digit for each pixel: '.' is 0, '?' is ignored."""
    numbers = {".": 0, "?": -1}
    rows = [
        np.array([[numbers.get(c) if c in numbers else int(c) for c in row]])
        for row in (truth, prediction)
    ]
    label = np.where(rows[0] < 0, -1, rows[0] > 0).astype(int)
    image = make_image(
        label,
        (rows[1] > 0).astype(int),
        true_objects=rows[0],
        objects=rows[1],
        classes=2,
    )
    return ObjectErrors(*count_object_errors(image).tolist())


def test_one_of_each_error(make_image):
    """1 and 2 are merged, 3 is split, 4 is found, 5 is missed; the last is invented."""
    truth = "11112222.3333.4444.5555..."
    answer = "11111111.2233.4444......55"
    expected = ObjectErrors(5, 5, missed=1, invented=1, merged=1, split=1)
    assert count(make_image, truth, answer) == expected


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("1111..", "..1111", (1, 1, 1, 1, 0, 0)),  # IoU 2 / 6
        ("1111", "11..", (1, 1, 0, 0, 0, 0)),  # IoU 1 / 2 is enough
        ("1111", "1...", (1, 1, 1, 1, 0, 0)),
        ("1111", "1122", (1, 2, 0, 0, 0, 1)),
        ("1122", "1111", (2, 1, 0, 0, 1, 0)),
        ("1111222", "1111111", (2, 1, 0, 0, 1, 0)),  # 1 has an IoU of 4 / 7, too
        (
            "111122222",
            "111111...",
            (2, 1, 1, 0, 0, 0),
        ),  # less than half of 2
        ("112233", "111111", (3, 1, 0, 0, 1, 0)),
        ("1212", "3344", (2, 2, 2, 2, 0, 0)),  # halves are no majority
        ("11??", "1122", (1, 1, 0, 0, 0, 0)),  # 2 lies on pixels that are not annotated
        ("....", "1.2.", (0, 2, 0, 2, 0, 0)),
        ("1.2.", "....", (2, 0, 2, 0, 0, 0)),
        ("....", "....", (0,) * 6),
        ("????", "1111", (0,) * 6),
    ],
)
def test_errors_by_hand(make_image, truth, answer, expected):
    assert count(make_image, truth, answer) == expected


@pytest.mark.parametrize("seed", range(8))
def test_errors_are_those_of_loops_over_all_pairs(make_image, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 9, (10, 12)).repeat(3, 0).repeat(2, 1)
    answer = np.where(rng.random(truth.shape) < 0.8, truth, 0)
    answer = np.where(answer > 0, rng.integers(1, 9, 9)[answer], 0)
    label = np.where(truth < 0, -1, truth > 0).astype(int)
    image = make_image(label, answer > 0, true_objects=truth, objects=answer, classes=2)
    known = truth >= 0
    true = [known & (truth == i) for i in np.unique(truth[truth > 0])]
    found = [known & (answer == i) for i in np.unique(answer[known]) if i > 0]

    def iou(a, b):
        return (a & b).sum() / (a | b).sum()

    def inside(a, b):
        return (a & b).sum() > a.sum() / 2

    merges = [sum(inside(t, p) for t in true) > 1 for p in found]
    splits = [sum(inside(p, t) for p in found) > 1 for t in true]
    missed = [
        not split
        and not any(
            iou(t, p) >= 0.5 or (merge and inside(t, p))
            for p, merge in zip(found, merges, strict=True)
        )
        for t, split in zip(true, splits, strict=True)
    ]
    invented = [
        not merge
        and not any(
            iou(t, p) >= 0.5 or (split and inside(p, t))
            for t, split in zip(true, splits, strict=True)
        )
        for p, merge in zip(found, merges, strict=True)
    ]
    expected = (len(true), len(found), *map(sum, (missed, invented, merges, splits)))
    assert tuple(count_object_errors(image)) == expected
