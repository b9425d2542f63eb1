import numpy as np

from unet_jax import pictures
from unet_jax.arrays import IGNORE
from unet_jax.colours import OBJECT_COLOURS

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


def test_errors_of_two_classes_are_false_negatives_and_false_positives():
    truth = np.array([[0, 1, 0, 1, IGNORE]])
    prediction = np.array([[0, 1, 1, 0, 1]])
    expected = [
        pictures.CORRECT,
        pictures.CORRECT,
        pictures.FALSE_POSITIVE,
        pictures.FALSE_NEGATIVE,
        pictures.IGNORED,
    ]
    np.testing.assert_array_equal(
        pictures.draw_errors(truth, prediction, axes=2)[0], expected
    )


def test_errors_of_many_classes_do_not_depend_on_the_order_of_the_classes():
    truth = np.array([[0, 1, 2, 3, 1, 3, 2, 0, IGNORE]])
    prediction = np.array([[0, 1, 2, 3, 3, 1, 0, 2, 2]])
    right, confused = [pictures.CORRECT] * 4, [pictures.WRONG_CLASS] * 2
    expected = [
        *right,
        *confused,
        pictures.FALSE_NEGATIVE,
        pictures.FALSE_POSITIVE,
        pictures.IGNORED,
    ]
    drawn = pictures.draw_errors(truth, prediction, axes=2)
    np.testing.assert_array_equal(drawn[0], expected)
    renamed = np.array([0, 3, 1, 2, IGNORE])  # any order of the foreground
    again = pictures.draw_errors(renamed[truth], renamed[prediction], axes=2)
    np.testing.assert_array_equal(again, drawn)
    drawn = pictures.draw_errors(truth, prediction, axes=2, background=False)
    wrong = [pictures.WRONG_CLASS] * 4
    np.testing.assert_array_equal(drawn[0], [*right, *wrong, pictures.IGNORED])


def test_the_legend_names_the_errors_that_can_occur():
    names = {
        key: [name for name, _ in pictures.make_error_legend(count, **options)]
        for key, count, options in (
            ("two", 2, {}),
            ("many", 11, {}),
            ("streets", 11, {"background": False}),
            ("one of two", 2, {"background": False}),
            ("independent", 3, {"independent": True}),
        )
    }
    false = ["false negative", "false positive"]
    both = ["correct", *false, "not annotated"]
    assert names == {
        "two": both,
        "many": ["correct", *false, "wrong class", "not annotated"],
        "streets": ["correct", "wrong class", "not annotated"],
        "one of two": ["correct", "wrong class", "not annotated"],
        "independent": both,
    }
    legend = pictures.make_error_legend(11)
    assert len({colour for _, colour in legend}) == 5
    narrow = pictures.draw_legend([*legend, ("\u7ec6\u80de\n", (1, 2, 3))], 120)
    assert narrow.shape[1] == 120
    assert narrow.shape[0] >= 3 * pictures.TITLE_HEIGHT
    found = {tuple(colour) for colour in narrow.reshape(-1, 3).tolist()}
    assert found >= {(1, 2, 3), *(colour for _, colour in legend)}


def test_errors_of_independent_classes_do_not_cancel():
    truth = np.array([[[1, 0], [IGNORE, 1], [0, 0], [IGNORE, IGNORE]]])
    prediction = np.array([[[0, 1], [0, 0], [1, 0], [1, 1]]])
    missed, false = pictures.FALSE_NEGATIVE, pictures.FALSE_POSITIVE
    expected = [missed, missed, false, pictures.IGNORED]
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
    with_legend = pictures.join_rows(rows, [("a", (1, 2, 3)), ("b", (4, 5, 6))])
    np.testing.assert_array_equal(with_legend[:height], joined)
    assert len(with_legend) == height + pictures.TITLE_HEIGHT


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
    grey_classes = ((0, 0, 0), (235, 235, 235), (9, 9, 250))
    vivid = pictures.draw_overlay(image, label, grey_classes)[1, 1]
    assert np.ptp(vivid) > 60
    assert (vivid != grey_classes[2]).any()
    every = pictures.draw_overlay(image, label, COLOURS[1:], background=False)
    np.testing.assert_array_equal(every[0, 1], COLOURS[1])
    np.testing.assert_array_equal(every[1, 1], COLOURS[2])


def test_an_overlay_of_objects_has_a_colour_for_each():
    image = np.zeros((7, 9, 1))
    label = np.zeros((7, 9), int)
    label[1:6, 1:8] = 1
    halves = np.where(np.arange(9) < 4, 1, 2) * label
    drawn = pictures.draw_overlay(image, label, COLOURS[:2], halves)
    left, right = drawn[1, 1], drawn[1, 7]
    assert (left != right).any()
    np.testing.assert_array_equal(drawn[3, 3:5], [left, right])  # the outlines touch
    np.testing.assert_allclose(drawn[3, 2], 0.35 * left, atol=1)
    np.testing.assert_allclose(drawn[3, 6], 0.35 * right, atol=1)
    # of several classes, the outline has the colour of the class
    label[:, 4:] *= 2
    both = pictures.draw_overlay(image, label, COLOURS, halves)
    np.testing.assert_array_equal(both[3, 3:5], COLOURS[1:])
    np.testing.assert_array_equal(both[3, 2], drawn[3, 2])
    np.testing.assert_array_equal(both[3, 6], drawn[3, 6])


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


def test_each_object_has_a_colour_and_neighbours_never_share_one():
    few = pictures.draw_objects(np.array([[0, 1, 2, 2**30, IGNORE, 0]]))[0]
    np.testing.assert_array_equal(few[[0, 4]], [[0] * 3, pictures.IGNORED])
    assert len(np.unique(few[1:4], axis=0)) == 3
    side, edge = 30, 7
    grid = np.arange(side * edge) // edge
    ids = 1 + grid[:, None] * side + grid
    order = np.random.default_rng(0).permutation(side**2) + 1
    ids = np.where(grid % 2, 3, 1)[:, None] * 10_000 + order[ids - 1]  # not 1, 2, 3...
    ids[3::edge] = 0  # background between some of them
    drawn = pictures.draw_objects(ids)[::edge, ::edge].astype(int)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == OBJECT_COLOURS
    assert (drawn[1:] != drawn[:-1]).any(-1).all()
    assert (drawn[:, 1:] != drawn[:, :-1]).any(-1).all()


def test_a_contact_sheet_fills_its_rows():
    images = [np.full((2, 3, 3), i, np.uint8) for i in range(5)]
    sheet = pictures.make_contact_sheet(images, 3)
    gap = pictures.GAP
    assert sheet.shape == (2 * 2 + gap, 3 * 3 + 2 * gap, 3)
    assert (sheet[2 + gap, 3 + gap] == 4).all()
    assert (sheet[2 + gap :, -3:] == 255).all()
