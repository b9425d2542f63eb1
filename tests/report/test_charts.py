import re

import numpy as np
import pytest

from unet_jax.report import charts, numbers
from unet_jax.report.contents import Reliability


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0.12, 0.78, [0, 0.2, 0.4, 0.6, 0.8]),
        (0, 5000, [0, 2000, 4000, 6000]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (0.9101, 0.9179, [0.91, 0.912, 0.914, 0.916, 0.918]),
    ],
)
def test_ticks_are_round_and_reach_over_the_values(low, high, expected):
    np.testing.assert_allclose(numbers.ticks(low, high), expected, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.5, -7.0, 1e-9, 1e6])
def test_one_value_alone_has_ticks_around_it(value):
    ticks = numbers.ticks(value, value)
    assert len(ticks) >= 2
    assert ticks[0] < value < ticks[-1]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0.05, 0.1], ["0.00", "0.05", "0.10"]),
        ([0, 2000, 4000], ["0", "2,000", "4,000"]),
        ([-0.2, 0.0, 0.2], ["−0.2", "0.0", "0.2"]),
    ],
)
def test_tick_labels_have_the_decimals_that_they_need(values, labels):
    assert numbers.tick_labels(values) == labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.91, "0.9100"),
        (0, "0.0000"),
        (12.345, "12.35"),
        (-0.5, "−0.5000"),
        (123456.7, "123,457"),
        (0.00042, "4.2e−04"),
    ],
)
def test_numbers(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 %"),
        (1, "100 %"),
        (0.00001, "< 0.1 %"),
        (0.99999, "> 99.9 %"),
        (0.123, "12.3 %"),
    ],
)
def test_percent_rounds_nothing_to_none_or_all(value, text):
    assert numbers.percent(value) == text


def places(svg, style):
    """The points of each line of a style."""
    found = re.findall(rf'<polyline class="{style}" points="([^"]*)"', svg)
    return [
        [tuple(map(float, p.split(","))) for p in points.split()] for points in found
    ]


def test_a_line_breaks_where_a_score_is_undefined():
    points = [(0, 1.0), (50, 0.0), (75, None), (100, 1.0)]
    (first, second) = places(charts.lines("x", [charts.Line("val", points)]), "line-0")
    left, right, top, bottom = charts.LEFT, charts.RIGHT, charts.TOP, 160
    assert first == [(left, top), ((left + right) / 2, bottom)]
    assert second == [(right, top)]


def test_the_checkpoint_is_marked_where_it_is():
    curve = [charts.Line("val", [(0, 1.0), (100, 2.0)])]
    marks = re.findall(
        r'class="mark" x1="([^"]*)"', charts.lines("x", curve, marked=50)
    )
    assert [float(mark) for mark in marks] == [(charts.LEFT + charts.RIGHT) / 2]
    assert "mark" not in charts.lines("x", curve, marked=101)


def test_long_lines_are_averaged_and_say_so():
    points = [(i, float(i % 2)) for i in range(1000)]
    points[8] = (8, None)
    line = charts.thinned("train", points)
    assert line.name == "train, means of 4"
    assert line.points[:3] == [(3, 0.5), (7, 0.5), (11, 2 / 3)]
    assert len(line.points) == 250
    assert charts.thinned("val", points[:300]).points == points[:300]


def test_a_network_that_is_right_as_often_as_it_is_sure_is_on_the_diagonal():
    bins = Reliability(np.array([1, 3]), np.array([0.25, 0.75]), np.array([0.25, 0.75]))
    svg = charts.reliability(bins)
    (line,) = places(svg, "line-0")
    side = charts.RIGHT - charts.LEFT
    for (x, y), p in zip(line, (0.25, 0.75), strict=True):
        assert x == pytest.approx(charts.LEFT + p * side, abs=0.1)
        assert y == pytest.approx(272 - p * (272 - charts.TOP), abs=0.1)
    tall = re.findall(r'class="bar" y="[^"]*" height="([^"]*)"', svg)
    assert float(tall[0]) * 3 == pytest.approx(float(tall[1]), abs=0.1)
    assert charts.calibration_gap(bins) == 0
