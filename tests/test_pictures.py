import numpy as np

from unet_jax import pictures
from unet_jax.arrays import IGNORE

COLOURS = ((0, 0, 0), (64, 200, 120), (9, 9, 250))


def test_a_label_is_drawn_in_the_colours_of_its_classes():
    label = np.array([[0, 1], [2, IGNORE]])
    drawn = pictures.draw_label(label, COLOURS, axes=2)
    expected = [[COLOURS[0], COLOURS[1]], [COLOURS[2], pictures.IGNORED]]
    np.testing.assert_array_equal(drawn, expected)
    channels = np.stack([label == 1, label == 2], axis=-1).astype(int)
    channels[1, 1] = IGNORE
    independent = pictures.draw_label(channels, COLOURS, axes=2)
    np.testing.assert_array_equal(independent, expected)


def test_errors_have_a_colour_for_too_low_and_one_for_too_high():
    truth = np.array([[0, 1, 0, 1, IGNORE]])
    prediction = np.array([[0, 1, 1, 0, 1]])
    expected = [
        pictures.CORRECT,
        pictures.CORRECT,
        pictures.TOO_HIGH,
        pictures.TOO_LOW,
        pictures.IGNORED,
    ]
    np.testing.assert_array_equal(
        pictures.draw_errors(truth, prediction, axes=2)[0], expected
    )


def test_errors_of_independent_classes_do_not_cancel():
    truth = np.array([[[1, 0], [IGNORE, 1], [0, 0], [IGNORE, IGNORE]]])
    prediction = np.array([[[0, 1], [0, 0], [1, 0], [1, 1]]])
    expected = [pictures.TOO_LOW, pictures.TOO_LOW, pictures.TOO_HIGH, pictures.IGNORED]
    np.testing.assert_array_equal(
        pictures.draw_errors(truth, prediction, axes=2)[0], expected
    )


def test_rows_of_images_and_volumes_of_any_size_are_joined():
    rng = np.random.default_rng(0)
    rows = []
    for shape in ((20, 30), (10, 12), (5, 8, 9)):
        label = rng.integers(0, 2, shape)
        image = rng.normal(size=(*shape, 1)) * 1e5
        drawn = pictures.draw_label(label, COLOURS, axes=len(shape))
        wrong = pictures.draw_errors(label, label, axes=len(shape))
        rows.append(
            pictures.make_contact_sheet(
                [pictures.draw_image(image), drawn, drawn, wrong], 4
            )
        )
    assert rows[0].shape == (20, 4 * 30 + 3 * pictures.GAP, 3)
    assert rows[2].shape[0] == 8
    joined = pictures.join_rows(rows)
    assert joined.dtype == np.uint8
    # twice as large, so that the titles fit
    height = pictures.TITLE_HEIGHT + sum(
        2 * row.shape[0] + pictures.GAP for row in rows
    )
    assert joined.shape == (height, 2 * rows[0].shape[1], 3)
    assert pictures.join_rows([]).shape == (pictures.TITLE_HEIGHT, 256, 3)


def test_constant_and_colour_images_can_be_drawn():
    assert pictures.draw_image(np.full((4, 4, 1), 7.0)).max() == 0
    colour = pictures.draw_image(np.random.default_rng(0).normal(size=(4, 4, 3)))
    assert len(np.unique(colour)) > 3
    assert pictures.draw_image(np.zeros((4, 4, 2))).shape == (4, 4, 3)


def test_an_overlay_tints_and_outlines_the_foreground():
    image = np.linspace(0, 1, 49).reshape(7, 7, 1)
    label = np.zeros((7, 7), int)
    label[1:6, 1:6] = 1
    under, over = (
        pictures.draw_image(image),
        pictures.draw_overlay(image, label, COLOURS),
    )
    np.testing.assert_array_equal(over[label == 0], under[label == 0])
    np.testing.assert_array_equal(over[1, 1:6], [COLOURS[1]] * 5)
    inside = under[3, 3] + 0.35 * (np.array(COLOURS[1]) - under[3, 3])
    np.testing.assert_allclose(over[3, 3], inside, atol=1)
    channels = np.stack([label == 1, np.zeros_like(label)], axis=-1)
    np.testing.assert_array_equal(pictures.draw_overlay(image, channels, COLOURS), over)
    halves = np.where(np.arange(7) < 4, 1, 2) * label
    parted = pictures.draw_overlay(image, label, COLOURS, halves)
    np.testing.assert_array_equal(parted[3, 3:5], [COLOURS[1]] * 2)
    assert (over[3, 3:5] != parted[3, 3:5]).any()
    grey_classes = ((0, 0, 0), (235, 235, 235), (9, 9, 250))
    vivid = pictures.draw_overlay(image, label, grey_classes)
    np.testing.assert_array_equal(vivid[1, 1], pictures.VIVID[0])


def test_a_heat_map_rises_from_black_to_white():
    heat = pictures.draw_heat_map(np.array([[0.0, 0.5, 1.0, 9.0]]), top=1.0)
    np.testing.assert_array_equal(heat[0, [0, 2, 3]], [[0] * 3, [255] * 3, [255] * 3])
    assert heat[0, 1, 0] > heat[0, 1, 1] > heat[0, 1, 2]


def test_values_are_drawn_with_the_range_of_another_image():
    target = np.linspace(0, 100, 101).reshape(1, 101, 1)
    np.testing.assert_array_equal(
        pictures.draw_image(target / 2, like=target)[0, 100], [int(255 * 49 / 98)] * 3
    )
    difference = pictures.draw_deviation(
        target, target + np.where(target > 50, 98, -98)
    )
    np.testing.assert_array_equal(difference[0, 0], pictures.TOO_LOW)
    np.testing.assert_array_equal(difference[0, 100], pictures.TOO_HIGH)
    right = pictures.draw_deviation(target, target)
    np.testing.assert_array_equal(right[0, 50], pictures.CORRECT)


def test_objects_of_consecutive_ids_have_different_colours():
    drawn = pictures.draw_objects(np.array([[0, 1, 2, 8, IGNORE]]))[0]
    np.testing.assert_array_equal(drawn[[0, 4]], [[0] * 3, pictures.IGNORED])
    assert (drawn[1] != drawn[2]).any()
    np.testing.assert_array_equal(drawn[1], drawn[3])  # there are seven colours


def test_a_contact_sheet_fills_its_rows():
    images = [np.full((2, 3, 3), i, np.uint8) for i in range(5)]
    sheet = pictures.make_contact_sheet(images, 3)
    gap = pictures.GAP
    assert sheet.shape == (2 * 2 + gap, 3 * 3 + 2 * gap, 3)
    assert (sheet[2 + gap, 3 + gap] == 4).all()
    assert (sheet[2 + gap :, -3:] == 255).all()
