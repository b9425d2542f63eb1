"""Label maps, as folders and TFDS data sets share them."""

from collections import Counter

import numpy as np
import pytest

from unet_jax import arrays
from unet_jax.colours import OKABE_ITO
from unet_jax.data.label_map import (
    apply_label_map,
    channels_to_label,
    class_colours,
    class_names,
    count_values,
    list_label_map_classes,
    parse_label_map,
    value_text,
)
from unet_jax.errors import UserError


def test_values_colours_and_names_are_mapped():
    pairs = (((0, 0, 0), "none"), ((255, 0, 9), 1), (7, -1), ("3", "cell"))
    ids = parse_label_map(pairs, ("none", "cell"))
    assert ids == {"0": 0, "255,0,9": 1, "7": -1, "3": 1}


@pytest.mark.parametrize(
    ("pairs", "ignore_value", "line"),
    [
        (((0, 0), (0, 1)), "", "gives the value 0 two meanings"),
        (((0, 0), (255, 1)), "255", "gives the value 255 two meanings"),
        (((0, 0), (1, 2)), "", "leaves class 1 out"),
        (((0, "cell"),), "", "there is no class 'cell' for the value 0"),
        (((0, 0, 0),), "", "must be pairs"),
        ((("red", 0),), "", "must be pairs"),
    ],
)
def test_a_label_map_that_cannot_be(pairs, ignore_value, line):
    with pytest.raises(UserError, match=line):
        parse_label_map(pairs, (), ignore_value)


def test_an_ignored_value_may_be_in_the_label_map_too():
    assert parse_label_map(((0, 0), (9, -1)), (), "9") == {"0": 0, "9": -1}


@pytest.mark.parametrize("chunk", [1, 2**22])
def test_a_mask_of_values_or_colours_becomes_a_label(chunk, monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_SIZE", chunk)
    values = np.array([[0, 255], [7, 0]], np.uint8)
    ids = {"0": 0, "255": 2, "7": -1}
    expected = [[0, 2], [-1, 0]]
    label = apply_label_map(values[..., None], ids)
    assert label.dtype == np.int32
    assert label.tolist() == expected
    grey = np.repeat(values[..., None], 3, -1)
    assert apply_label_map(grey, ids).tolist() == expected
    grey[0, 1] = (255, 0, 0)
    assert apply_label_map(grey, ids | {"255,0,0": 2}).tolist() == expected
    total = Counter()
    count_values(total, grey[:1])
    count_values(total, grey[1:])
    counts = {value_text(value): pixels for value, pixels in total.items()}
    assert counts == {"0": 2, "7": 1, "255,0,0": 1}
    with pytest.raises(UserError, match="the mask values 255,0,0 have no class"):
        apply_label_map(grey, ids)


def test_channels_become_independent_classes():
    mask = np.array([[0, 9], [255, 1]])
    assert channels_to_label(mask, "").tolist() == [[0, 1], [1, 1]]
    assert channels_to_label(mask, "255").tolist() == [[0, 1], [-1, 1]]


def test_classes_without_names_have_numbers_and_maybe_a_background():
    assert class_names(("a", "b"), 2) == ("a", "b")
    assert class_names((), 1) == class_names((), 2) == ("background", "foreground")
    assert class_names((), 3) == ("background", "class 1", "class 2")
    assert class_names((), 2, background=False) == ("class 0", "class 1")
    assert class_names((), 3, background=False) == ("class 0", "class 1", "class 2")


def test_a_label_map_names_a_background_only_where_there_is_one():
    pairs = ((3, "road"), (4, "car"), (7, -1), (5, "road"))
    assert list_label_map_classes(pairs, background=False) == ("road", "car")
    with pytest.raises(UserError, match="no background"):
        list_label_map_classes(pairs)
    pairs += ((0, "background"),)
    for background in (True, False):  # the ids of a run do not depend on it
        names = list_label_map_classes(pairs, background=background)
        assert names == ("background", "road", "car")


def test_colours_are_given_or_chosen():
    assert class_colours((), 3) == ((0, 0, 0), *OKABE_ITO[:2])
    assert class_colours((), 2, background=False) == OKABE_ITO[:2]
    assert len(set(class_colours((), 99))) == 99
    assert class_colours(((4, 5, 6), (0, 0, 0)), 2) == ((4, 5, 6), (0, 0, 0))
    for wrong in (((1, 2, 3),), ((1, 2),) * 2, ((1, 2, 256),) * 2, ((0, 0, 0),) * 3):
        with pytest.raises(UserError, match="colours must have"):
            class_colours(wrong, 2)
