import base64
import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from unet_jax.report.contents import (
    MetricInfo,
    Provenance,
    ReliabilityBins,
    Report,
    ScoredExample,
)
from unet_jax.report.render import render_report

HOSTILE = "<script>alert('\"&')</script>"
VOID = {"meta", "link", "img", "input"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Page(html.parser.HTMLParser):
    """Parser of a page; an end tag that closes no open element fails at once."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def png(shade, shape=(6, 8)):
    stream = io.BytesIO()
    Image.new("L", shape[::-1], shade).save(stream, "PNG")
    return stream.getvalue()


OBJECTS = {
    "true": 1234,
    "predicted": 9,
    "missed": 7,
    "invented": 6,
    "merged": 5,
    "split": 4,
}
PROVENANCE = Provenance(
    facts=(("network", HOSTILE), ("commit", "abc")),
    sessions=(
        ("trained steps 0 to 20", "2026-11-26T09:00:00+00:00", 90, f"run {HOSTILE}"),
        ("evaluated", "2026-11-27T09:00:00+00:00", 9000, "python main.py"),
    ),
    config_file="configs/x.py",
    changes=(("steps", "9", "20"),),
    warnings=(f"{HOSTILE} is odd",),
)


def example(**changes):
    """A report with something in every part, and a hostile name wherever one fits."""
    classes = ("background", HOSTILE)
    rows = [
        {"step": s, "train/loss": 1 / s, "train/learning_rate": 0.1}
        for s in range(1, 21)
    ]
    rows[9] |= {"val/loss": 0.3, "val/dice": None, f"val/dice/{HOSTILE}": 0.2}
    rows[19] |= {"val/loss": 0.2, "val/dice": 0.8, "val/hausdorff95": 3.5}
    images = [{"id": f"{HOSTILE} {i}", "dice": i / 100} for i in range(60)]
    images[0] |= {f"dice/{HOSTILE}": 0.5}
    images[20] |= {"dice": None, "objects": OBJECTS}
    pictures = [("image", png(0)), ("truth", png(99)), (HOSTILE, png(255))]
    return Report(
        title=HOSTILE,
        facts=(("step", "20"), (HOSTILE, HOSTILE)),
        step=20,
        history=rows,
        metrics=(
            MetricInfo("dice", "over all pixels"),
            MetricInfo("hausdorff95", "mean over images", lower=True, unit="pixels"),
        ),
        classes=classes,
        scores={
            "test/loss": 0.25,
            "test/dice": 0.8125,
            f"test/dice/{HOSTILE}": 0.75,
            "test/hausdorff95": None,
        },
        images=images,
        objects=OBJECTS,
        reliability=ReliabilityBins(
            np.array([0, 3, 1]),
            np.array([np.nan, 0.5, 0.9]),
            np.array([np.nan, 0.7, 0.5]),
        ),
        confusion=np.array([[3, 1], [0, 1234567]]),
        examples=[ScoredExample("worst", HOSTILE, [("dice", None)], pictures)],
        legend=[(HOSTILE, (1, 2, 3))],
        provenance=PROVENANCE,
    )._replace(**changes)


def test_the_page_is_well_formed_and_needs_nothing_else():
    text = render_report(example())
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert {"script", "iframe", "object", "base", "form"}.isdisjoint(
        tag for tag, _ in page.elements
    )
    for tag, attrs in page.elements:
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href", "srcset", "data", "action"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), tag
    bare = re.sub(r'src="data:image/png;base64,[A-Za-z0-9+/=]*"', "", text)
    assert not re.search(r"https?:|//|url\(|@import", bare)


def test_text_from_users_is_escaped_everywhere():
    page = Page(render_report(example()))
    assert "<script" not in render_report(example())
    # title, h1, dt, dd; a column of scores, confusion and images, a row of confusion;
    # 60 images; heading, picture and swatch; command, fact and warning
    assert page.text.count(HOSTILE) == 4 + 4 + 60 + 3 + 3
    alts = [attrs["alt"] for attrs in page.all("img")]
    assert alts[-1] == f"worst, {HOSTILE}: {HOSTILE}"


def test_every_picture_is_there_with_its_size():
    text = render_report(example())
    images = Page(text).all("img")
    assert len(images) == 3
    assert all((a["width"], a["height"]) == ("8", "6") for a in images)
    for attrs, shade in zip(images, (0, 99, 255), strict=True):
        data = attrs["src"].removeprefix("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.getpixel((0, 0)) == shade


def test_the_same_report_gives_the_same_bytes():
    assert render_report(example()) == render_report(example())


def test_scores_say_how_to_read_them():
    text = Page(render_report(example())).text
    assert "0.8125 dice, over all pixels" in text
    assert "dice over all pixels, higher is better 0.8125 0.7500" in text
    assert "hausdorff95, pixels mean over images, lower is better –" in text


def test_all_images_are_listed_the_worst_first():
    text = Page(render_report(example())).text
    assert "60 images, worst dice first." in text
    assert f"{HOSTILE} 0 0.0000 0.5000" in text
    places = [text.index(f"{HOSTILE} {i} 0.") for i in range(60) if i != 20]
    assert places == sorted(places)
    # that without a score comes last; its objects: missed, invented, merged, split
    assert text.index(f"{HOSTILE} 20 – – 7 6 5 4") > places[-1]

    distance = (MetricInfo("hausdorff95", lower=True),)
    images = [{"id": name, "hausdorff95": x} for name, x in (("a", 1.0), ("b", 9.0))]
    text = Page(render_report(example(metrics=distance, images=images))).text
    assert "2 images, worst hausdorff95 first." in text
    assert text.index("b 9.0000") < text.index("a 1.0000")


def test_images_that_are_drawn_have_a_link():
    images = [{"id": name, "dice": x} for name, x in (("a", 0.9), ("b", 0.1))]
    drawn = [ScoredExample("worst", "b", [], [("image", png(0))])]
    page = Page(render_report(example(images=images, examples=drawn)))
    assert [link["href"] for link in page.all("a")] == ["#example-1"]
    assert [each["id"] for each in page.all("article") if "id" in each] == ["example-1"]
    assert "Those with a link are drawn above." in page.text


def test_a_thousand_images_are_a_page_of_sane_size():
    images = [{"id": f"{i:04d}.png", "dice": i / 1000} for i in range(1000)]
    text = render_report(example(images=images, examples=()))
    assert all(f"{i:04d}.png" in text for i in range(1000))
    assert len(text) < 600_000


def test_the_account_of_the_run_and_its_objects():
    text = Page(render_report(example())).text
    assert (
        "objects true predicted missed invented merged split "
        "all images 1,234 9 7 6 5 4" in text
    )
    assert f"Provenance {HOSTILE} is odd trained steps 0 to 20" in text
    assert "2026-11-26 09:00:00+00:00, 1 min 30 s" in text
    assert "2026-11-27 09:00:00+00:00, 2 h 30 min" in text
    assert "differ from configs/x.py field in the file in this run steps 9 20" in text
    for changes, words in (
        ((), "No field differs from configs/x.py."),
        (None, "The config was made in Python"),
    ):
        made = PROVENANCE._replace(changes=changes)
        assert words in Page(render_report(example(provenance=made))).text


def test_scores_come_before_curves():
    page = Page(render_report(example()))
    assert page.text.index("Scores") < page.text.index("Learning curves")


def test_control_characters_are_shown_escaped():
    name = "a\x1b[31m\u202e.png"
    images = [{"id": name, "dice": 1.0}]
    metrics = (MetricInfo(name),)
    text = render_report(example(title=name, images=images, metrics=metrics))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count(r"a\x1b[31m\u202e.png") >= 3


def test_the_calibration_error_by_hand():
    """(3 |0.7 - 0.5| + 1 |0.5 - 0.9|) / 4 = 0.25"""
    text = Page(render_report(example())).text
    assert "The expected calibration error is 0.2500:" in text
    assert "0.33–0.67 3 0.500 0.700" in text
    assert "0.00–0.33" not in text


def test_confusion_in_percent_of_the_truth():
    text = Page(render_report(example())).text
    assert f"background 75.0 % 3 25.0 % 1 {HOSTILE} 0 % 0 100 % 1,234,567" in text
    tables = np.array([[[3, 1], [0, 0]], [[0, 0], [1, 1]]])
    text = Page(render_report(example(confusion=tables))).text
    assert "background truth no yes no 75.0 % 3 25.0 % 1 yes – 0 – 0" in text
    assert f"{HOSTILE} truth no yes no – 0 – 0 yes 50.0 % 1 50.0 % 1" in text


def test_curves_are_the_losses_and_the_means():
    page = Page(render_report(example()))
    names = [attrs["aria-label"] for attrs in page.all("svg")]
    assert names == [
        "loss over training steps",
        "dice over training steps",
        "hausdorff95 over training steps",
        "learning_rate over training steps",
        "accuracy over confidence",
        "dice of each image",
    ]
    assert "step 20" in page.text


@pytest.mark.slow
def test_what_is_not_there_leaves_no_hole():
    page = Page(render_report(Report("bare")))
    assert page.text == "bare bare"  # the title of the window and the heading
    assert page.all("section") == []
    everything = Page(render_report(example()))
    assert len(everything.all("section")) == len(everything.all("h2")) == 8
    for part, heading in (
        ("history", "Learning curves"),
        ("scores", "Scores"),
        ("images", "Images"),
        ("reliability", "Calibration"),
        ("confusion", "Confusion"),
        ("examples", "Examples"),
        ("objects", "Objects"),
        ("provenance", "Provenance"),
    ):
        page = Page(render_report(example(**{part: Report._field_defaults[part]})))
        assert len(page.all("section")) == 7
        assert heading not in page.text


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def browse(folder, page, *flags):
    """Returns what Chromium says about a page: its output and its console."""
    command = [
        CHROMIUM,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", "--enable-logging=stderr", "--v=0"),
        f"--user-data-dir={folder / 'profile'}",
        *flags,
        page.as_uri(),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_it_without_a_word(tmp_path):
    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    page.write_text(render_report(example()))
    size = "--window-size=800,2000"
    _, console = browse(tmp_path, page, size, f"--screenshot={shot}")
    assert console == []
    with Image.open(shot) as picture:
        assert picture.width == 800
        assert len(picture.convert("RGB").getcolors(2**24)) > 50


@needs_browser
def test_on_a_phone_only_tables_scroll_sideways(tmp_path):
    """A page around it, 390 pixels wide, measures how wide it is and its pictures."""
    classes = [f"a class of a long name, {i}" for i in range(9)]
    confusion = np.full((9, 9), 10**9)
    report = example(classes=classes, confusion=confusion, title="unbroken" * 20)
    (tmp_path / "report.html").write_text(render_report(report))
    around = tmp_path / "around.html"
    around.write_text("""<!doctype html>
<iframe id="phone" src="report.html" style="width: 390px; border: 0"></iframe>
<p id="out"></p>
<script>
  addEventListener("load", () => {
    const page = document.getElementById("phone").contentDocument;
    const boxes = [...page.querySelectorAll(".box")];
    const width = page.documentElement.scrollWidth;
    const scrolling = boxes.filter((box) => box.scrollWidth > box.clientWidth).length;
    const pictures = [...page.images];
    const wide = pictures.filter((each) => each.naturalWidth && each.width > 99).length;
    const sizes = [0, 1, 2].map((clicks) => {
      if (clicks) pictures[0].parentElement.click();
      const box = pictures[0].getBoundingClientRect();
      return [box.width, box.height].map(Math.round);
    });
    const window_ = page.defaultView;
    document.getElementById("out").textContent = [
      width, scrolling, wide, window_.innerWidth, window_.innerHeight, ...sizes.flat(),
    ].join(" ");
  });
</script>""")
    flags = ("--allow-file-access-from-files", "--dump-dom")
    dom, console = browse(tmp_path, around, *flags)
    assert console == []
    numbers = re.search(r'id="out">([\d ]+)<', dom)[1].split()
    width, scrolling, pictures, *window_and_sizes = map(int, numbers)
    assert width <= 390
    assert scrolling >= 1
    assert pictures == 3
    # a click enlarges a picture to the window, another one makes it small again
    window, small, large, again = (window_and_sizes[i : i + 2] for i in (0, 2, 4, 6))
    assert large == window
    assert again == small
    assert small[0] < window[0] / 2


@needs_browser
def test_on_a_phone_no_word_in_a_table_is_cut(tmp_path):
    """The lines of each word are counted, in a page that is 390 pixels wide."""
    classes = ["Column-Pole", "SignSymbol", "aggregated_jaccard", "extracellular"]
    metrics = [MetricInfo(name) for name in ("dice", "calibration_error")]
    report = example(
        classes=classes,
        confusion=np.full((4, 4), 10**9),
        metrics=metrics,
        scores={f"test/{m.name}/{c}": 0.5 for m in metrics for c in classes}
        | {f"test/{m.name}": 0.5 for m in metrics},
    )
    (tmp_path / "report.html").write_text(render_report(report))
    around = tmp_path / "around.html"
    around.write_text(r"""<!doctype html>
<iframe id="phone" src="report.html" style="width: 390px; border: 0"></iframe>
<p id="out"></p>
<script>
  addEventListener("load", () => {
    const page = document.getElementById("phone").contentDocument;
    const cut = [];
    let words = 0;
    for (const cell of page.querySelectorAll("td, th")) {
      const texts = page.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        for (const word of texts.currentNode.data.matchAll(/[\w,.]+/g)) {
          const range = page.createRange();
          range.setStart(texts.currentNode, word.index);
          range.setEnd(texts.currentNode, word.index + word[0].length);
          const tops = new Set([...range.getClientRects()].map((r) => r.top));
          words += 1;
          if (tops.size > 1) cut.push(word[0]);
        }
      }
    }
    document.getElementById("out").textContent = `${words} words, cut: [${cut}]`;
  });
</script>""")
    flags = "--window-size=800,600", "--allow-file-access-from-files", "--dump-dom"
    page, _ = browse(tmp_path, around, *flags)
    found = re.search(r"(\d+) words, cut: \[(.*)\]</p>", page)
    assert found is not None
    assert int(found[1]) > 50
    assert found[2] == ""
