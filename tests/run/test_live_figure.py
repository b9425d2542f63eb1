"""The figure that a notebook shows of a run, as HTML."""

import base64
import json
import re

import numpy as np
import pytest

from unet_jax import notebook
from unet_jax.pictures import encode_png
from unet_jax.report.render import render_training
from unet_jax.run import live_figure as module

PICTURE = np.full((4, 6, 3), 7, np.uint8)


@pytest.fixture
def areas(monkeypatch):
    """All contents of each area."""
    shown = []

    def open_area():
        shown.append([])
        return shown[-1].append

    monkeypatch.setattr(notebook, "open_area", open_area)
    return shown


def read_captions(content):
    found = re.findall("<figcaption>(.*?)</figcaption>", content)
    return [re.sub(" +", " ", re.sub("<.*?>", " ", text)).strip() for text in found]


def test_a_run_has_one_figure_that_is_drawn_again(areas, tmp_path):
    figure = module.live_figure(tmp_path)
    assert figure.visible
    assert areas == []
    figure.start(0)
    figure.write_scalars(1, {"train/loss": 3.0, "train/learning_rate": 0.5})
    (contents,) = areas
    assert read_captions(contents[-1]) == ["loss train", "learning rate train"]
    assert "<img" not in contents[-1]
    scores = {"val/loss": 2.0, "val/iou": 0.25, "val/dice": 0.5, "val/dice/cell": 0.75}
    figure.write_scalars(2, scores)
    figure.write_picture(2, "val/predictions", PICTURE)
    captions = ["loss val train", "iou val", "dice val"]  # the first three
    assert read_captions(contents[-1]) == captions
    assert "<title>val 0.5000 at 2</title>" in contents[-1]
    assert base64.b64encode(encode_png(PICTURE)).decode() in contents[-1]
    figure.write_scalars(3, {"val/loss": 1.0})
    figure.close(failed=False)
    assert "<title>val 1.0000 at 3</title>" in contents[-1]
    assert len(areas) == 1


def test_drawing_takes_a_small_share_of_the_time(areas, tmp_path, monkeypatch):
    clock = iter([0.0, 0.0, 2.0, 41.0, 43.0, 43.0, 44.0]).__next__
    monkeypatch.setattr(module.time, "monotonic", clock)
    monkeypatch.setattr(module, "render_training", lambda history, picture: history[:])
    figure = module.live_figure(tmp_path)
    figure.start(0)
    figure.write_scalars(1, {"train/loss": 3.0})  # from 0 to 2 seconds
    # drawing took 2 seconds, so the next is due 2 / 0.05 = 40 seconds later
    figure.write_scalars(2, {"train/loss": 2.0})  # at 41
    assert [len(history) for history in areas[0]] == [1]
    figure.write_scalars(3, {"train/loss": 1.0})  # at 43
    assert [len(history) for history in areas[0]] == [1, 3]


def test_a_resumed_run_shows_its_first_part(areas, tmp_path):
    rows = [{"step": 10, "train/loss": 0.75}, {"step": 20, "train/loss": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    figure = module.live_figure(tmp_path)
    figure.start(20)
    figure.write_scalars(30, {"train/loss": 0.25})
    for words in ("0.7500 at 10", "0.5000 at 20", "0.2500 at 30"):
        assert words in areas[0][-1]


def test_a_run_that_stops_before_its_first_line_draws_nothing(areas, tmp_path):
    figure = module.live_figure(tmp_path)
    figure.close(failed=True)
    figure.start(0)
    figure.close(failed=True)
    assert areas == [[]]


def test_names_are_escaped():
    content = render_training([{"step": 1, "val/<b>&": 0.5}])
    assert "<b>" not in content
    assert "&lt;b&gt;&amp;" in content
