"""The figures, by the data of their artists and by the SVG that is made of them."""

import concurrent.futures
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from unet_jax.report import figures
from unet_jax.report.contents import IntensityRange, ReliabilityBins
from unet_jax.report.figures import Curve
from unet_jax.report.svg import to_svg

HOSTILE = "<script>'\"&$x$</script>"
BINS = ReliabilityBins(np.array([1, 3]), np.array([0.25, 0.75]), np.array([0.25, 0.5]))


def image(name, low, middle, high, odd=False):
    return IntensityRange("train", name, low, middle, high, 1.0, odd)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def titles(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("title")]


def lines(axes):
    """The points of each line of axes."""
    return [line.get_xydata().tolist() for line in axes.get_lines()]


def segments(axes):
    """The ends of the vertical lines of axes, in the order of the collections."""
    return [
        [tuple(segment[:, 1]) for segment in collection.get_segments()]
        for collection in axes.collections
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected", "labels"),
    [
        (0, 1, [0, 0.5, 1], ["0.0", "0.5", "1.0"]),
        (0.12, 0.78, [0, 0.2, 0.4, 0.6, 0.8], ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        (0.79, 0.94, [0.75, 0.8, 0.85, 0.9, 0.95], None),
        (0, 5000, [0, 2000, 4000, 6000], ["0", "2,000", "4,000", "6,000"]),
        (-3, 3, [-4, -2, 0, 2, 4], ["−4", "−2", "0", "2", "4"]),
        (0.9101, 0.9179, [0.91, 0.912, 0.914, 0.916, 0.918], None),
    ],
)
def test_ticks_are_round_and_reach_over_the_values(low, high, expected, labels):
    axes = figures.learning_curves([Curve("val", [(0, low), (9, high)])]).figure.axes[0]
    np.testing.assert_allclose(axes.get_yticks(), expected, atol=1e-12)
    np.testing.assert_allclose(axes.get_ylim(), (expected[0], expected[-1]))
    if labels:
        assert [label.get_text() for label in axes.get_yticklabels()] == labels


@pytest.mark.parametrize("value", [0.0, 0.5, -7.0, 1e-9, 1e6])
def test_one_value_alone_has_ticks_around_it(value):
    axes = figures.learning_curves([Curve("val", [(0, value)])]).figure.axes[0]
    ticks = axes.get_yticks()
    assert len(ticks) >= 2
    assert ticks[0] < value < ticks[-1]


def test_the_rounding_of_float32_is_no_change():
    points = [(0, 5e-4), (9, float(np.float32(5e-4)))]
    axes = figures.learning_curves([Curve("rate", points)]).figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert max(map(len, labels)) <= len("0.00045")


def test_a_curve_breaks_where_a_score_is_undefined():
    points = [(0, 1.0), (50, 0.0), (75, None), (90, float("nan")), (100, 1.0)]
    axes = figures.learning_curves([Curve("val", points)]).figure.axes[0]
    curve, dots = lines(axes)
    assert [x for x, _ in curve] == [0, 50, 75, 90, 100]
    np.testing.assert_equal([y for _, y in curve], [1, 0, np.nan, np.nan, 1])
    assert dots == [[0, 1], [50, 0], [100, 1]]
    assert axes.get_xlim() == (0, 100)


def test_a_point_without_neighbours_is_a_dot_on_any_curve():
    points = [(x, None if x in (49, 51, 80) else 1.0) for x in range(100)]
    drawing = figures.learning_curves([Curve("val", points), Curve("train", points)])
    train, train_dots, val, val_dots = lines(drawing.figure.axes[0])
    assert len(train) == len(val) == 100
    assert train_dots == val_dots == [[50, 1]]


@pytest.mark.parametrize("end", [1, 2, 3, 9])
def test_steps_are_whole_numbers(end):
    axes = figures.learning_curves([Curve("val", [(0, 1), (end, 2)])]).figure.axes[0]
    assert axes.get_xlim() == (0, end)
    assert {label.get_text() for label in axes.get_xticklabels()} <= {
        *map(str, range(99))
    }


def test_the_checkpoint_is_marked_where_it_is():
    curve = [Curve("val", [(0, 1.0), (100, 2.0)])]
    mark = lines(figures.learning_curves(curve, marked=50).figure.axes[0])[-1]
    assert mark == [[50, 0], [50, 1]]
    assert len(lines(figures.learning_curves(curve, marked=101).figure.axes[0])) == 2


def test_dots_say_their_values():
    curves = [Curve(HOSTILE, [(0, 1.0), (1000, None), (2000, -0.5)])]
    svg = to_svg(figures.learning_curves(curves), "x")
    assert titles(svg) == [f"{HOSTILE} 1.0000 at 0", f"{HOSTILE} −0.5000 at 2,000"]


def test_long_curves_are_averaged_and_say_so():
    points = [(i, float(i % 2)) for i in range(1000)]
    points[8] = (8, None)
    curve = figures.averaged(Curve("train", points))
    assert curve.name == "train, means of 4"
    assert curve.points[:3] == [(3, 0.5), (7, 0.5), (11, 2 / 3)]
    assert len(curve.points) == 250
    assert figures.averaged(Curve("val", points[:300])).points == points[:300]


def test_a_strip_has_a_tick_for_each_score():
    drawing = figures.score_strip(HOSTILE, [0.2, None, 0.4, float("nan"), 0.3])
    (ticks,) = drawing.figure.axes[0].collections
    assert [segment[0, 0] for segment in ticks.get_segments()] == [0.2, 0.4, 0.3]
    assert HOSTILE in texts(to_svg(drawing, "x"))


def test_reliability():
    drawing = figures.reliability_diagram(BINS)
    axes, histogram = drawing.figure.axes
    diagonal, curve, dots = lines(axes)
    assert diagonal == [[0, 0], [1, 1]]
    assert curve == dots == [[0.25, 0.25], [0.75, 0.5]]
    assert segments(axes) == [[(0.25, 0.25), (0.75, 0.5)]]  # the gaps
    assert [bar.get_height() for bar in histogram.patches] == [0.25, 0.75]
    assert "most in one bin: 75.0 %" in texts(to_svg(drawing, "x"))


def test_empty_bins_are_not_drawn():
    nan = float("nan")
    bins = ReliabilityBins(np.array([0, 2]), np.array([nan, 0.9]), np.array([nan, 1]))
    _, curve, _ = lines(figures.reliability_diagram(bins).figure.axes[0])
    assert curve == [[0.9, 1]]


def test_a_disc_for_each_size_whose_area_is_its_images():
    counts = {(100, 200): 9, (50, 100): 1, (10, 20): 36}
    drawing = figures.image_sizes(counts)
    axes = drawing.figure.axes[0]
    (discs,) = axes.collections
    assert discs.get_offsets().tolist() == [[20, 10], [200, 100], [100, 50]]
    areas = discs.get_sizes()
    assert areas[0] / areas[1] == pytest.approx(4)
    assert areas[2] > areas[0] / 36  # still to be seen
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 200), (0, 100))
    assert titles(to_svg(drawing, "x"))[1] == "100 x 200: 9 images"


def test_ranges_are_lines_from_dark_to_bright():
    drawing = figures.intensity_ranges([image("b", 0, 60, 100), image("a", 0, 50, 50)])
    axes = drawing.figure.axes[0]
    assert segments(axes) == [[(0, 50), (0, 100)], []]
    assert lines(axes) == [[[0, 50], [1, 60]]]
    assert titles(to_svg(drawing, "x")) == ["train, a: 0 to 50", "train, b: 0 to 100"]


def test_a_few_that_are_far_brighter_do_not_hide_the_others():
    ranges = [image(str(i), 0, 10, 100) for i in range(9)]
    ranges.append(image("bright", 1, 10, 1_000_000, odd=True))
    drawing = figures.intensity_ranges(ranges)
    axes = drawing.figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == (1, 1e6)
    usual, odd = segments(axes)
    assert usual == 9 * [(1, 100)]  # 0 has no logarithm
    assert odd == [(1, 1e6)]
    assert "10⁶" in texts(to_svg(drawing, "x"))


def test_of_many_images_some_are_drawn_and_all_odd_ones():
    ranges = [image(f"{i:04d}", 0, i, i + 1) for i in range(1000)]
    ranges[1] = ranges[1]._replace(odd=True)
    drawing = figures.intensity_ranges(ranges)
    assert list(map(len, segments(drawing.figure.axes[0]))) == [250, 1]
    svg = to_svg(drawing, "x")
    assert "one in 4 of 1,000 images" in texts(svg)
    assert len(titles(svg)) == 251


@pytest.mark.parametrize("value", [-5.0, 0.0, 7.0])
def test_constant_images_are_drawn(value):
    ranges = [image(name, value, value, value) for name in "ab"]
    svg = to_svg(figures.intensity_ranges(ranges), "x")
    assert len(titles(svg)) == 2


def drawings():
    """One of each figure."""
    ranges = [image(f"{HOSTILE} {i}", 0, i, 9, odd=i == 2) for i in range(3)]
    return {
        "curves": figures.learning_curves([Curve(HOSTILE, [(0, 1), (9, 2)])], marked=3),
        "strip": figures.score_strip(HOSTILE, [1, 2, None]),
        "reliability": figures.reliability_diagram(BINS),
        "sizes": figures.image_sizes({(9, 8): 7, (6, 5): 4}),
        "ranges": figures.intensity_ranges(ranges),
    }


def written():
    return {label: to_svg(drawing, label) for label, drawing in drawings().items()}


def test_svg_has_the_page_s_colours_and_fonts_and_no_references():
    for label, svg in written().items():
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == label
        assert "var(--" in svg
        assert not re.search(r"#[0-9a-f]{6}|font|url\(|http|<script", svg)
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        uses = {element.get("href").removeprefix("#") for element in root.iter("use")}
        assert uses <= ids


def test_ids_of_two_figures_differ():
    (a, b) = (to_svg(figures.score_strip("x", [1, 2]), label) for label in "ab")
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in (a, b)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_the_same_data_give_the_same_bytes_whatever_the_user_s_settings():
    before = written()
    with matplotlib.rc_context({"font.size": 40, "axes.grid": False, "svg.id": "me"}):
        assert written() == before
        assert matplotlib.rcParams["font.size"] == 40


def test_figures_can_be_drawn_in_threads():
    before = written()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(
            future.result() == before
            for future in [pool.submit(written) for _ in range(4)]
        )
