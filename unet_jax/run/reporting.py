"""From what a run left behind to its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build import Parts
from unet_jax.inference import entropy
from unet_jax.metrics.calibration import reliability
from unet_jax.report import Case, Measure, Report, render
from unet_jax.run.judge import Judged, look


def html(
    config: ConfigDict,
    workdir: Path,
    parts: Parts,
    variables: Any,
    judged: Judged,
    step: int,
) -> str:
    """The report of the test split: curves, scores, calibration, confusion, cases."""
    count = len(judged.images)
    report = Report(
        title=config.name,
        facts=(("checkpoint", f"step {step}"), ("test images", str(count))),
        step=step,
        history=_history(workdir),
        measures=[
            *(Measure(name, m.reduction, m.lower) for name, m in parts.metrics),
            Measure("loss", "mean over images", lower=True),
        ],
        classes=parts.predicting.classes,
        scores=judged.scores,
        images=judged.images,
        reliability=reliability(judged.reliability),
        confusion=judged.confusion,
        cases=[
            _case(parts, variables, judged, rank, index)
            for rank, index in _chosen(judged, parts.metrics[0][0])
        ],
        legend=_legend(parts),
    )
    return render(report)


def _history(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / logs.METRICS
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _chosen(judged: Judged, first: str) -> list[tuple[str, int]]:
    """Which images to show, and why: those where the first score is defined."""
    scored = [(image[first], i) for i, image in enumerate(judged.images)]
    ranked = [i for score, i in sorted(s for s in scored if s[0] is not None)]
    if not ranked:
        return []
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    if len(ranked) == 1:
        places = {0: "the only one"}
    return [
        (rank, ranked[place]) for place, rank in sorted(places.items(), reverse=True)
    ]


def _case(parts: Parts, variables: Any, judged: Judged, rank: str, index: int) -> Case:
    example = parts.test[index]
    seen = look(parts, variables, parts.test, index)
    colours = parts.predicting.preprocessing["colours"]
    axes = example["weight"].ndim
    independent = parts.predicting.independent
    doubt = entropy(seen.probabilities, independent=independent)
    most = np.log(2) * seen.classes if independent else np.log(seen.classes)
    shown = {
        "image": pictures.grey(example["image"]),
        "truth": pictures.paint(seen.truth, colours, axes=axes),
        "prediction": pictures.paint(seen.prediction, colours, axes=axes),
        "error": pictures.differ(seen.truth, seen.prediction, axes=axes),
        "uncertainty": pictures.heat(doubt, top=float(most)),
    }
    names = [name for name, _ in parts.metrics]
    image = judged.images[index]
    scores = [(name, image[name]) for name in names]
    return Case(
        rank, image["id"], scores, [(t, pictures.png(p)) for t, p in shown.items()]
    )


def _legend(parts: Parts) -> list[tuple[str, tuple[int, ...]]]:
    kind = parts.predicting.preprocessing
    classes = zip(kind["classes"], map(tuple, kind["colours"]), strict=True)
    return [
        *classes,
        ("error: a class too low, missed", pictures.MISSED),
        ("error: a class too high, invented", pictures.INVENTED),
    ]
