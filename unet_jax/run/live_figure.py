"""The curves and predictions of a run, drawn in a notebook cell while it trains."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax import logs, notebook, pictures
from unet_jax.report.render import render_training
from unet_jax.run.trackers import Tracker

MAX_SHARE = 0.05  # of the time that may be spent on drawing


def live_figure(workdir: Path) -> Tracker:
    """Opens a figure in the output of the current cell.

    It shows the loss, the first scores and the newest predictions of validation images.
    """
    history: list[Mapping[str, Any]] = []
    picture: bytes | None = None
    show, due = (lambda content: None), 0.0

    def draw() -> None:
        nonlocal due
        start = time.monotonic()
        show(render_training(history, picture))
        end = time.monotonic()
        due = end + (end - start) / MAX_SHARE

    def start(step: int) -> None:
        nonlocal show
        history[:] = logs.read_scalars(workdir)  # of a run that is resumed
        show = notebook.open_area()

    def write_scalars(step: int, scalars: Mapping[str, float]) -> None:
        history.append({"step": step, **scalars})
        if time.monotonic() >= due:
            draw()

    def write_picture(step: int, name: str, drawn: np.ndarray) -> None:
        nonlocal picture
        picture = pictures.encode_png(drawn)
        draw()

    def close(*, failed: bool) -> None:
        if history:
            draw()

    return Tracker(
        start=start,
        write_scalars=write_scalars,
        write_picture=write_picture,
        write_test_scores=lambda step, scores: None,
        close=close,
        visible=True,
    )
