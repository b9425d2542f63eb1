"""From what a run left behind to its report."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build import Parts
from unet_jax.inference import entropy
from unet_jax.metrics.calibration import reliability
from unet_jax.report import Case, Measure, Reliability, Report, render
from unet_jax.run.judge import Judged, image_of, look

SHOWN = 1024  # pixels along the longer side of a picture, at most


def html(
    config: ConfigDict,
    workdir: Path,
    parts: Parts,
    variables: Any,
    judged: Judged,
    step: int,
) -> str:
    """The report of the test split: curves, scores, calibration, confusion, cases."""
    report = Report(
        title=config.name,
        facts=_facts(parts, judged, step),
        step=step,
        history=logs.rows(workdir),
        measures=_measures(parts),
        classes=parts.predicting.classes,
        scores=judged.scores,
        images=judged.images,
        reliability=Reliability(**reliability(judged.reliability)),
        confusion=judged.confusion,
        cases=[
            _case(parts, variables, judged, rank, index)
            for rank, index in _chosen(judged, parts.metrics[0][0])
        ],
        legend=_legend(parts),
    )
    return render(report)


def true_objects(parts: Parts) -> str:
    """What the scores of objects take for the true ones."""
    if "instances" in parts.test[0]:
        return "the data set's own"
    return "face-connected components of the true classes"


def _facts(parts: Parts, judged: Judged, step: int) -> list[tuple[str, str]]:
    options = parts.predicting.options
    facts = [("checkpoint", f"step {step}"), ("test images", str(len(judged.images)))]
    if options.tta != "none":
        facts.append(("test-time augmentation", options.tta))
    if options.postprocess:
        names = (spec["name"] for spec in options.postprocess)
        facts.append(("post-processing", ", ".join(names)))
    return [*facts, ("true objects", true_objects(parts))]


def _measures(parts: Parts) -> list[Measure]:
    distance = "spacing's units" if "spacing" in parts.test[0] else "pixels"
    units = {"": "", "distance": distance}
    return [
        *(
            Measure(name, metric.reduction, metric.lower, units[metric.unit])
            for name, metric in parts.metrics
        ),
        Measure("loss", "mean over images", lower=True),
    ]


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
        "image": pictures.grey(image_of(parts, example)),
        "truth": pictures.paint(seen.truth, colours, axes=axes),
        "prediction": pictures.paint(seen.prediction, colours, axes=axes),
        "error": pictures.differ(seen.truth, seen.prediction, axes=axes),
        "uncertainty": pictures.heat(doubt, top=float(most)),
    }
    names = [name for name, _ in parts.metrics]
    image = judged.images[index]
    scores = [(name, image[name]) for name in names]
    drawn = [(title, pictures.png(_small(p))) for title, p in shown.items()]
    return Case(rank, image["id"], scores, drawn)


def _small(picture: pictures.Picture) -> pictures.Picture:
    """Every n-th pixel, so that the page stays light."""
    step = -(-max(picture.shape[:2]) // SHOWN)
    return picture[::step, ::step]


def _legend(parts: Parts) -> list[tuple[str, tuple[int, ...]]]:
    kind = parts.predicting.preprocessing
    classes = zip(kind["classes"], map(tuple, kind["colours"]), strict=True)
    return [
        *classes,
        ("error: a class too low, missed", pictures.MISSED),
        ("error: a class too high, invented", pictures.INVENTED),
    ]
