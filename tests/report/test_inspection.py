"""The page of an inspection, read back as the tree that it is."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from unet_jax.report import Inspection, inspected, spreads
from unet_jax.report.axes import LEFT, RIGHT, TOP
from unet_jax.report.findings import (
    Advice,
    Channel,
    Example,
    Pair,
    Part,
    Range,
    Share,
    Span,
    Value,
)

HOSTILE = "<b>\"x&y'</b>.png"


def tree(page):
    """HTML of our own making is XML, once its void elements are closed."""
    body = page.removeprefix("<!doctype html>\n")
    return ElementTree.fromstring(re.sub(r"<((?:meta|link|img)[^>]*)>", r"<\1/>", body))


def text(page):
    root = tree(page)
    root.find("head").remove(root.find("head/style"))
    return " ".join(" ".join(root.itertext()).split())


def png():
    stream = io.BytesIO()
    Image.new("L", (8, 6)).save(stream, "PNG")
    return stream.getvalue()


def span(name, low, middle, high, odd=False):
    return Span("train", name, low, middle, high, 12.0 if odd else 1.0, odd)


def part(**changes):
    return Part(
        name="train",
        images=3,
        formats={"png": 2, "tif": 1},
        shapes={(40, 50): 2, (30, 60): 1},
        channels={1: 3},
        dtypes={"uint8": 3},
        spacings={},
        sizes=[Range(30, 40, 40), Range(50, 50, 60)],
        classes=[Share("soil", 60, 0.75, 3), Share(HOSTILE, 20, 0.25, 1)],
        ignored=0.0,
        empty=[HOSTILE, "second"],
        objects=[0, 7, 2],
    )._replace(**changes)


def example(**changes):
    """Something in every part, and a hostile name wherever one fits."""
    shown = Example("train", "most foreground", HOSTILE, "40 x 50", png())
    spans = [span("a", 0, 4, 9), span(HOSTILE, 1, 2, 90, odd=True), span("c", 0, 5, 9)]
    return Inspection(
        title=HOSTILE,
        faults=(
            ("warning", "hue", "w1"),
            ("error", "size", "e1"),
            ("error", HOSTILE, f"{HOSTILE} is broken"),
            ("error", "size", "e2"),
        ),
        said=(f"{HOSTILE} was chosen",),
        parts=(part(), part(name="val", empty=[], objects=[])),
        values=(Value("255", 1, HOSTILE, 20), Value("7", None, "none", 1)),
        channels=(Channel((0, 0, 4, 9, 90), spans),),
        examples=(shown,),
        legend=((HOSTILE, (1, 2, 3)),),
        pairs=(Pair(True, shown, shown._replace(split="val")),),
        advice=Advice(
            [("crop", "(32, 32)", HOSTILE)], 3 * 2**29, 600.0, HOSTILE, "python x.py"
        ),
    )._replace(**changes)


def test_the_page_is_a_tree_that_needs_nothing_else_and_is_the_same_again():
    page = inspected(example())
    for element in tree(page).iter():
        assert element.tag not in ("script", "iframe", "b/"), element.tag
        for name, value in element.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or value.startswith("data:")
    assert page == inspected(example())


def test_names_from_users_are_text():
    page = inspected(example())
    assert '<b>"' not in page
    assert [element.text for element in tree(page).iter("b")] == ["3 errors"]
    # title, h1, fault's kind and text, decision, legend; example, its pair twice; mask
    # value, class, empty image, odd image and its tick; reason and device
    assert text(page).count(HOSTILE) == 6 + 3 + 5 + 2
    alts = [image.get("alt") for image in tree(page).iter("img")]
    assert alts == [f"train, {HOSTILE}"] * 2 + [f"val, {HOSTILE}"]


def test_errors_come_first_those_of_one_kind_together():
    words = text(inspected(example()))
    order = ["Errors", "size 2 e1 e2", f"{HOSTILE} is broken", "Warnings", "hue 1 w1"]
    places = [words.index(each) for each in [*order, "Decided", "Splits"]]
    assert places == sorted(places)
    assert "3 errors and 1 warning" in words
    assert "no errors and no warnings" in text(inspected(Inspection("sound")))


def test_the_numbers():
    words = text(inspected(example()))
    assert "format png (2), tif (1) png (2), tif (1)" in words
    assert "size 40 x 50 median; 30 x 50 to 40 x 60, 2 sizes" in words
    assert "objects per image 0 to 7, median 2" in words
    assert "without foreground 2 0" in words
    assert "soil 75.0 % 3 of 3 75.0 % 3 of 3" in words
    assert f"255 1 {HOSTILE} 20 7 – none 1" in words
    assert "channel lowest 0.5 % 50 % 99.5 % highest 0 0 0 4 9 90" in words
    assert "1 range far from the median range." in words
    assert f"{HOSTILE} train 0 1 to 90 12" in words
    assert "size images 40 x 50 4 30 x 60 2" in words
    assert "memory of a step 1.5 GiB 1000 steps 10 minutes" in words
    assert "spacing" not in words
    assert "not annotated" not in words


@pytest.mark.parametrize("count", [50, 51, 80])
def test_a_long_list_is_cut_and_says_so(count):
    names = [f"image{i:03d}" for i in range(count)]
    words = text(inspected(Inspection("t", parts=[part(empty=names)])))
    assert words.count("image0") == min(count, 50)
    assert (f"and {count - 50} more" in words) == (count > 50)


def test_what_is_not_there_leaves_no_hole():
    assert tree(inspected(Inspection("bare"))).findall(".//section") == []
    whole = len(tree(inspected(example())).findall(".//section"))
    assert whole == 13
    for field, sections in (("faults", 2), ("parts", 5), ("pairs", 1), ("advice", 1)):
        bare = example(**{field: Inspection._field_defaults[field]})
        assert len(tree(inspected(bare)).findall(".//section")) == whole - sections


def circles(svg):
    found = re.findall(r'class="size" cx="(.*?)" cy="(.*?)" r="(.*?)"', svg)
    return [tuple(map(float, each)) for each in found]


def test_a_dot_for_each_size_whose_area_is_its_images():
    (x, y, r), (x2, y2, r2) = circles(spreads.shapes({(100, 200): 9, (50, 100): 1}))
    assert (x, y) == (RIGHT, TOP + 8)
    assert x2 == (LEFT + RIGHT) / 2
    assert y2 == pytest.approx((TOP + 8 + 196) / 2)
    assert (r / r2) ** 2 == pytest.approx(9)


def lengths(svg):
    found = re.findall(r'class="(span[^"]*)".*?y1="(.*?)" y2="(.*?)"', svg)
    return [(style, float(low) - float(high)) for style, low, high in found]


def test_ranges_are_lines_from_dark_to_bright():
    rows = [span("b", 0, 60, 100), span("a", 0, 50, 50)]
    (_, short), (_, long) = lengths(spreads.spans("x", rows))
    assert long == pytest.approx(196 - TOP + 1)
    assert short == pytest.approx((196 - TOP) / 2 + 1, abs=0.01)


def test_a_few_that_are_far_brighter_do_not_hide_the_others():
    rows = [span(str(i), 1, 10, 100) for i in range(9)]
    rows.append(span("bright", 1, 10, 1_000_000, odd=True))
    svg = spreads.spans("x", rows)
    *usual, (style, bright) = lengths(svg)
    assert style == "span odd"
    assert bright / usual[0][1] == pytest.approx(6 / 2, rel=0.02)  # powers of ten
    assert "10⁶" in svg


def test_of_many_images_some_are_drawn_and_all_odd_ones():
    rows = [span(f"{i:04d}", 0, i, i + 1) for i in range(1000)]
    rows[1] = rows[1]._replace(odd=True)
    styles = [style for style, _ in lengths(spreads.spans("x", rows))]
    assert len(styles) == 250 + 1
    assert styles.count("span odd") == 1


def test_axes_of_volumes_are_strips():
    shapes = {(10, 20, 30): 1, (12, 20, 40): 1}
    volume = part(shapes=shapes, sizes=[Range(*sorted(s)) for s in np.ones((3, 3))])
    page = inspected(Inspection("t", parts=[volume._replace(objects=[])]))
    labels = [svg.get("aria-label") for svg in tree(page).iter("svg")]
    assert labels == [f"axis {i} of each image" for i in range(3)]
