"""The report of a run."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.training import EvaluationParts
from unet_jax.inference import compute_entropy
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.report import Case, Measure, Reliability, Report, render
from unet_jax.run import drawing
from unet_jax.run.scoring import Evaluation, predict_case, resample_image_back

SHOWN = 1024  # pixels along the longer side of a picture, at most


def html(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    variables: Any,
    judged: Evaluation,
    step: int,
) -> str:
    """The report of the test split: curves, scores, calibration, confusion, cases."""
    report = Report(
        title=config.name,
        facts=_facts(parts, judged, step),
        step=step,
        history=logs.read_scalars(workdir),
        measures=_measures(parts),
        classes=parts.prediction.task.classes,
        scores=judged.scores,
        images=judged.per_image,
        reliability=_reliability(judged),
        confusion=judged.confusion,
        cases=_cases(parts, variables, judged),
        legend=_legend(parts),
    )
    return render(report)


def true_objects(parts: EvaluationParts) -> str | None:
    """Returns the origin of the true objects in words; None without classes."""
    if not parts.prediction.task.classes:
        return None
    if "instances" in parts.test[0]:
        return "the data set's own"
    return "face-connected components of the true classes"


def _facts(
    parts: EvaluationParts, judged: Evaluation, step: int
) -> list[tuple[str, str]]:
    options = parts.prediction.options
    facts = [
        ("checkpoint", f"step {step}"),
        ("test images", str(len(judged.per_image))),
    ]
    if options.tta != "none":
        facts.append(("test-time augmentation", options.tta))
    if options.postprocess:
        names = (spec["name"] for spec in options.postprocess)
        facts.append(("post-processing", ", ".join(names)))
    objects = true_objects(parts)
    return [*facts, ("true objects", objects)] if objects else facts


def _measures(parts: EvaluationParts) -> list[Measure]:
    distance = "spacing's units" if "spacing" in parts.test[0] else "pixels"
    units = {"": "", "distance": distance}
    return [
        *(
            Measure(name, metric.reduction, metric.lower, units[metric.unit])
            for name, metric in parts.metrics
        ),
        Measure("loss", "mean over images", lower=True),
    ]


def _chosen(judged: Evaluation, first: str) -> list[tuple[str, int]]:
    """The images that are shown, each with the reason, by the first score."""
    scored = [(image[first], i) for i, image in enumerate(judged.per_image)]
    ranked = [i for score, i in sorted(s for s in scored if s[0] is not None)]
    if not ranked:
        return []
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    if len(ranked) == 1:
        places = {0: "the only one"}
    return [
        (rank, ranked[place]) for place, rank in sorted(places.items(), reverse=True)
    ]


def _cases(parts: EvaluationParts, variables: Any, judged: Evaluation) -> list[Case]:
    if parts.method.sample:
        drawn = pictures.encode_png(judged.picture)
        return [Case("samples", "real above, generated below", [], [("sheet", drawn)])]
    return [
        _case(parts, variables, judged, rank, index)
        for rank, index in _chosen(judged, parts.metrics[0][0])
    ]


def _case(
    parts: EvaluationParts, variables: Any, judged: Evaluation, rank: str, index: int
) -> Case:
    example, task = parts.test[index], parts.prediction.task
    seen = predict_case(parts, variables, parts.test, index)
    shown = {
        "image": pictures.draw_image(resample_image_back(parts, example)),
        **drawing.panels(parts, seen),
    }
    if seen.probabilities is not None:
        # the entropy of an even split between all answers
        share = 0.5 if task.overlapping else 1 / seen.num_classes
        even = np.full((1, seen.num_classes), share)
        doubt = compute_entropy(task, seen.probabilities)
        shown["uncertainty"] = pictures.draw_heat_map(
            doubt, top=float(task.entropy(even)[0])
        )
    names = [name for name, _ in parts.metrics]
    image = judged.per_image[index]
    scores = [(name, image[name]) for name in names]
    drawn = [(title, pictures.encode_png(_small(p))) for title, p in shown.items()]
    return Case(rank, image["id"], scores, drawn)


def _reliability(judged: Evaluation) -> Reliability | None:
    if judged.reliability is None:
        return None
    return Reliability(**tabulate_reliability(judged.reliability))


def _small(picture: pictures.Picture) -> pictures.Picture:
    """Every n-th pixel, so that the page stays light."""
    step = -(-max(picture.shape[:2]) // SHOWN)
    return picture[::step, ::step]


def _legend(parts: EvaluationParts) -> list[tuple[str, tuple[int, ...]]]:
    """The colours of the pictures: of classes, unless objects are drawn, and errors."""
    task, kind = parts.prediction.task, parts.prediction.preprocessing
    if parts.method.sample:
        return []
    if not task.classes:
        return [("error: too low", pictures.TOO_LOW), ("too high", pictures.TOO_HIGH)]
    classes = zip(kind["classes"], map(tuple, kind["colours"]), strict=True)
    return [
        *(() if task.finds_objects else classes),
        ("error: a class too low, missed", pictures.TOO_LOW),
        ("error: a class too high, invented", pictures.TOO_HIGH),
    ]
