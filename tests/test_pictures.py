import numpy as np

from unet_jax import pictures
from unet_jax.arrays import IGNORE

COLOURS = ((0, 0, 0), (64, 200, 120), (9, 9, 250))


def test_a_label_is_painted_in_the_colours_of_its_classes():
    label = np.array([[0, 1], [2, IGNORE]])
    painted = pictures.paint(label, COLOURS, axes=2)
    expected = [[COLOURS[0], COLOURS[1]], [COLOURS[2], pictures.UNKNOWN]]
    np.testing.assert_array_equal(painted, expected)
    channels = np.stack([label == 1, label == 2], axis=-1).astype(int)
    channels[1, 1] = IGNORE
    independent = pictures.paint(channels, COLOURS, axes=2)
    np.testing.assert_array_equal(independent, expected)


def test_errors_are_missed_or_invented():
    truth = np.array([[0, 1, 0, 1, IGNORE]])
    prediction = np.array([[0, 1, 1, 0, 1]])
    expected = [
        pictures.RIGHT,
        pictures.RIGHT,
        pictures.INVENTED,
        pictures.MISSED,
        pictures.UNKNOWN,
    ]
    np.testing.assert_array_equal(
        pictures.differ(truth, prediction, axes=2)[0], expected
    )


def test_errors_of_independent_classes_do_not_cancel():
    truth = np.array([[[1, 0], [IGNORE, 1], [0, 0], [IGNORE, IGNORE]]])
    prediction = np.array([[[0, 1], [0, 0], [1, 0], [1, 1]]])
    expected = [pictures.MISSED, pictures.MISSED, pictures.INVENTED, pictures.UNKNOWN]
    np.testing.assert_array_equal(
        pictures.differ(truth, prediction, axes=2)[0], expected
    )


def test_a_sheet_holds_images_of_any_size_and_volumes():
    rng = np.random.default_rng(0)
    rows = []
    for shape in ((20, 30), (10, 12), (5, 8, 9)):
        label = rng.integers(0, 2, shape)
        image = rng.normal(size=(*shape, 1)) * 1e5
        painted = pictures.paint(label, COLOURS, axes=len(shape))
        wrong = pictures.differ(label, label, axes=len(shape))
        rows.append(pictures.row([pictures.grey(image), painted, painted, wrong]))
    assert rows[0].shape == (20, 4 * 30 + 3 * pictures.GAP, 3)
    assert rows[2].shape[0] == 8
    sheet = pictures.sheet(rows)
    assert sheet.dtype == np.uint8
    # twice as large, so that the titles fit
    height = pictures.BAND + sum(2 * row.shape[0] + pictures.GAP for row in rows)
    assert sheet.shape == (height, 2 * rows[0].shape[1], 3)
    assert pictures.sheet([]).shape == (pictures.BAND, 256, 3)


def test_grey_survives_constant_and_colour_images():
    assert pictures.grey(np.full((4, 4, 1), 7.0)).max() == 0
    colour = pictures.grey(np.random.default_rng(0).normal(size=(4, 4, 3)))
    assert len(np.unique(colour)) > 3
    assert pictures.grey(np.zeros((4, 4, 2))).shape == (4, 4, 3)


def test_an_overlay_tints_and_outlines_what_is_not_background():
    image = np.linspace(0, 1, 49).reshape(7, 7, 1)
    label = np.zeros((7, 7), int)
    label[1:6, 1:6] = 1
    under, over = pictures.grey(image), pictures.overlay(image, label, COLOURS)
    np.testing.assert_array_equal(over[label == 0], under[label == 0])
    np.testing.assert_array_equal(over[1, 1:6], [COLOURS[1]] * 5)
    inside = under[3, 3] + 0.35 * (np.array(COLOURS[1]) - under[3, 3])
    np.testing.assert_allclose(over[3, 3], inside, atol=1)
    channels = np.stack([label == 1, np.zeros_like(label)], axis=-1)
    np.testing.assert_array_equal(pictures.overlay(image, channels, COLOURS), over)
    halves = np.where(np.arange(7) < 4, 1, 2) * label
    parted = pictures.overlay(image, label, COLOURS, halves)
    np.testing.assert_array_equal(parted[3, 3:5], [COLOURS[1]] * 2)
    assert (over[3, 3:5] != parted[3, 3:5]).any()
    grey_classes = ((0, 0, 0), (235, 235, 235), (9, 9, 250))
    vivid = pictures.overlay(image, label, grey_classes)
    np.testing.assert_array_equal(vivid[1, 1], pictures.VIVID[0])


def test_heat_rises_from_black_to_white():
    heat = pictures.heat(np.array([[0.0, 0.5, 1.0, 9.0]]), top=1.0)
    np.testing.assert_array_equal(heat[0, [0, 2, 3]], [[0] * 3, [255] * 3, [255] * 3])
    assert heat[0, 1, 0] > heat[0, 1, 1] > heat[0, 1, 2]


def test_values_are_drawn_on_the_scale_of_another_image():
    target = np.linspace(0, 100, 101).reshape(1, 101, 1)
    np.testing.assert_array_equal(
        pictures.grey(target / 2, like=target)[0, 100], [int(255 * 49 / 98)] * 3
    )
    apart = pictures.deviation(target, target + np.where(target > 50, 98, -98))
    np.testing.assert_array_equal(apart[0, 0], pictures.MISSED)
    np.testing.assert_array_equal(apart[0, 100], pictures.INVENTED)
    right = pictures.deviation(target, target)
    np.testing.assert_array_equal(right[0, 50], pictures.RIGHT)


def test_neighbouring_objects_have_different_colours():
    painted = pictures.paint_objects(np.array([[0, 1, 2, 8, IGNORE]]))[0]
    np.testing.assert_array_equal(painted[[0, 4]], [[0] * 3, pictures.UNKNOWN])
    assert (painted[1] != painted[2]).any()
    np.testing.assert_array_equal(painted[1], painted[3])  # after all seven


def test_a_contact_sheet_fills_its_rows():
    images = [np.full((2, 3, 3), i, np.uint8) for i in range(5)]
    sheet = pictures.contact_sheet(images, 3)
    gap = pictures.GAP
    assert sheet.shape == (2 * 2 + gap, 3 * 3 + 2 * gap, 3)
    assert (sheet[2 + gap, 3 + gap] == 4).all()
    assert (sheet[2 + gap :, -3:] == 255).all()
