"""The page of an inspection, read back as the tree that it is."""

import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from unet_jax.report import figures
from unet_jax.report.contents import (
    ChannelStatistics,
    ClassStatistics,
    DatasetExample,
    DuplicatePair,
    Inspection,
    IntensityRange,
    MaskValue,
    PlanSummary,
    SplitStatistics,
    Spread,
)
from unet_jax.report.environment import ENVIRONMENT, draw_svg
from unet_jax.report.render import render_inspection

HOSTILE = "<b>\"x&y'</b>.png"


def tree(page):
    """HTML of our own making is XML, once its void elements are closed."""
    body = page.removeprefix("<!doctype html>\n")
    closed = re.sub(r"<((?:meta|link|img|input)[^>]*)>", r"<\1/>", body)
    return ElementTree.fromstring(closed)


def text(page):
    root = tree(page)
    root.find("head").remove(root.find("head/style"))
    return " ".join(" ".join(root.itertext()).split())


def png():
    stream = io.BytesIO()
    Image.new("L", (8, 6)).save(stream, "PNG")
    return stream.getvalue()


def span(name, low, middle, high, odd=False):
    return IntensityRange("train", name, low, middle, high, 12.0 if odd else 1.0, odd)


def split(**changes):
    return SplitStatistics(
        name="train",
        images=3,
        formats={"png": 2, "tif": 1},
        shapes={(40, 50): 2, (30, 60): 1},
        channels={1: 3},
        dtypes={"uint8": 3},
        spacings={},
        sizes=[Spread(30, 40, 40), Spread(50, 50, 60)],
        classes=[
            ClassStatistics("soil", 60, 0.75, 3),
            ClassStatistics(HOSTILE, 20, 0.25, 1),
        ],
        ignored=0.0,
        empty=[HOSTILE, "second"],
        objects=[0, 7, 2],
    )._replace(**changes)


def example(**changes):
    """Something in every part, and a hostile name wherever one fits."""
    shown = DatasetExample("train", "most foreground", HOSTILE, "40 x 50", png())
    spans = [span("a", 0, 4, 9), span(HOSTILE, 1, 2, 90, odd=True), span("c", 0, 5, 9)]
    return Inspection(
        title=HOSTILE,
        issues=(
            ("warning", "hue", "w1"),
            ("error", "size", "e1"),
            ("error", HOSTILE, f"{HOSTILE} is broken"),
            ("error", "size", "e2"),
        ),
        decisions=(f"{HOSTILE} was chosen",),
        splits=(split(), split(name="val", empty=[], objects=[])),
        mask_values=(MaskValue("255", 1, HOSTILE, 20), MaskValue("7", None, "none", 1)),
        channels=(ChannelStatistics((0, 0, 4, 9, 90), spans),),
        examples=(shown,),
        legend=((HOSTILE, (1, 2, 3)),),
        duplicates=(DuplicatePair(True, shown, shown._replace(split="val")),),
        plan=PlanSummary(
            [("crop", "(32, 32)", HOSTILE)], 3 * 2**29, 600.0, HOSTILE, "python x.py"
        ),
    )._replace(**changes)


def test_the_page_is_a_tree_that_needs_nothing_else_and_is_the_same_again():
    page = render_inspection(example())
    for element in tree(page).iter():
        assert element.tag not in ("script", "iframe", "b/"), element.tag
        for name, value in element.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or value.startswith(("data:", "#"))
    ids = [element.get("id") for element in tree(page).iter() if element.get("id")]
    assert len(set(ids)) == len(ids) > 0
    assert page == render_inspection(example())


def test_names_from_users_are_text():
    page = render_inspection(example())
    assert '<b>"' not in page
    assert [element.text for element in tree(page).iter("b")] == ["3 errors"]
    # title, h1, fault's kind and text, decision, legend; example, its pair twice; mask
    # value, class, empty image, odd image and its tick; reason and device
    assert text(page).count(HOSTILE) == 6 + 3 + 5 + 2
    alts = [image.get("alt") for image in tree(page).iter("img")]
    assert alts == [f"train, {HOSTILE}"] * 2 + [f"val, {HOSTILE}"]


def test_errors_come_first_those_of_one_kind_together():
    words = text(render_inspection(example()))
    order = ["Errors", "size 2 e1 e2", f"{HOSTILE} is broken", "Warnings", "hue 1 w1"]
    places = [words.index(each) for each in [*order, "Decisions", "Splits"]]
    assert places == sorted(places)
    assert "3 errors and 1 warning" in words
    assert "no errors and no warnings" in text(render_inspection(Inspection("sound")))


def test_the_numbers():
    words = text(render_inspection(example()))
    assert "format png (2), tif (1) png (2), tif (1)" in words
    assert "median size 40 x 50 40 x 50 sizes 30 x 50 to 40 x 60, 2 sizes 30" in words
    assert "objects per image 0 to 7, median 2" in words
    assert "without foreground 2 0" in words
    assert "soil 75.0 % 3 of 3 75.0 % 3 of 3" in words
    assert f"255 1 {HOSTILE} 20 7 – none 1" in words
    assert "channel lowest 0.5 % 50 % 99.5 % highest 0 0 0 4 9 90" in words
    assert "1 range far from the median range." in words
    assert f"{HOSTILE} train 0 1 to 90 12" in words
    assert "size images 40 x 50 4 30 x 60 2" in words
    assert "memory of a step 1.5 GiB 1000 steps 10 min 0 s" in words
    assert "spacing" not in words
    assert "not annotated" not in words


@pytest.mark.parametrize("count", [50, 51, 80])
def test_a_long_list_is_cut_and_says_so(count):
    names = [f"image{i:03d}" for i in range(count)]
    words = text(render_inspection(Inspection("t", splits=[split(empty=names)])))
    assert words.count("image0") == min(count, 50)
    assert (f"and {count - 50} more" in words) == (count > 50)


def test_what_is_not_there_leaves_no_hole():
    assert tree(render_inspection(Inspection("bare"))).findall(".//section") == []
    whole = len(tree(render_inspection(example())).findall(".//section"))
    assert whole == 13
    for field, sections in (
        ("issues", 2),
        ("splits", 5),
        ("duplicates", 1),
        ("plan", 1),
    ):
        bare = example(**{field: Inspection._field_defaults[field]})
        assert (
            len(tree(render_inspection(bare)).findall(".//section")) == whole - sections
        )


def test_images_of_all_splits_are_counted_once():
    one = split(shapes={(40, 50): 2, (30, 60): 1})
    both = one._replace(name="all", images=6, shapes={(40, 50): 4, (30, 60): 2})
    splits = [one, one._replace(name="val"), both]
    words = text(render_inspection(Inspection("t", splits=splits)))
    assert "size images 40 x 50 4 30 x 60 2" in words


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_without_a_number_are_not_drawn(value):
    ranges = [span("a", 0, 4, 9), span("b", value, value, value), span("c", 0, 5, 9)]
    channels = (ChannelStatistics((0, 0, value, 9, 9), ranges),)
    page = render_inspection(Inspection("t", channels=channels))
    assert "channel lowest 0.5 % 50 % 99.5 % highest 0 0 0 – 9 9" in text(page)
    assert "2 images" in text(page)
    channels = (ChannelStatistics((0, 0, value, 9, 9), ranges[1:]),)
    assert "<svg" not in render_inspection(Inspection("t", channels=channels))


def test_axes_of_volumes_are_strips():
    shapes = {(10, 20, 30): 1, (12, 20, 40): 1}
    volume = split(shapes=shapes, sizes=[Spread(*sorted(s)) for s in np.ones((3, 3))])
    page = render_inspection(Inspection("t", splits=[volume._replace(objects=[])]))
    labels = [svg.get("aria-label") for svg in tree(page).iter("svg")]
    assert labels == [f"axis {i} of each image" for i in range(3)]


@pytest.mark.slow
def test_training_loads_neither_templates_nor_figures():
    code = (
        "import sys, unet_jax.run; assert not {'jinja2', 'matplotlib'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_control_characters_of_names_are_escaped_on_a_page():
    page = ENVIRONMENT.from_string("{{ name }} {{ figure }}")
    html = page.render(name="a\x1b[2J\u202e<b>\udcff.png", figure=Markup("<svg>\n"))
    assert html == r"a\x1b[2J\u202e&lt;b&gt;\xff.png <svg>" + "\n"


def test_control_characters_of_names_are_escaped_in_a_figure():
    name = "a\x1b[2J\udcff.png"
    ranges = [IntensityRange("train", name, 0, 0.5, 1, 1.0, odd=False)]
    drawing = figures.intensity_ranges(ranges)
    svg = ENVIRONMENT.from_string("{{ f }}").render(f=draw_svg(drawing, "x"))
    assert r"a\x1b[2J\xff.png" in svg
    assert svg.replace("\n", "").isprintable()
