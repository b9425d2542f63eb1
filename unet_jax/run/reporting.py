"""The contents of the report of a run."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.training import EvaluationParts
from unet_jax.inference import compute_entropy
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.report.contents import (
    Legend,
    MetricInfo,
    ReliabilityBins,
    Report,
    ScoredExample,
)
from unet_jax.run.scoring import (
    Evaluation,
    draw_panels,
    predict_case,
    resample_image_back,
)

MAX_SIZE = 1024  # pixels along the longer side of a picture


def render_html(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    variables: Any,
    evaluation: Evaluation,
    step: int,
) -> str:
    """Renders the report of the test split as an HTML file.

    The learning curves come from the run folder. The variables and the step are those
    of the checkpoint.
    """
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.render import render_report

    report = Report(
        title=config.name,
        facts=_facts(parts, evaluation, step),
        step=step,
        history=logs.read_scalars(workdir),
        metrics=_metrics(parts),
        classes=parts.prediction.task.classes,
        scores=evaluation.scores,
        images=evaluation.per_image,
        reliability=_reliability(evaluation),
        confusion=evaluation.confusion,
        examples=_examples(parts, variables, evaluation),
        legend=_legend(parts),
    )
    return render_report(report)


def describe_true_objects(parts: EvaluationParts) -> str | None:
    """Returns the origin of the true objects in words; None without classes."""
    if not parts.prediction.task.classes:
        return None
    if "instances" in parts.test[0]:
        return "the data set's own"
    return "face-connected components of the true classes"


def _facts(
    parts: EvaluationParts, evaluation: Evaluation, step: int
) -> list[tuple[str, str]]:
    options = parts.prediction.options
    count = len(evaluation.per_image)
    facts = [("checkpoint", f"step {step}"), ("test images", str(count))]
    if options.tta != "none":
        facts.append(("test-time augmentation", options.tta))
    if options.postprocess:
        names = (spec["name"] for spec in options.postprocess)
        facts.append(("post-processing", ", ".join(names)))
    objects = describe_true_objects(parts)
    return [*facts, ("true objects", objects)] if objects else facts


def _metrics(parts: EvaluationParts) -> list[MetricInfo]:
    distance = "spacing's units" if "spacing" in parts.test[0] else "pixels"
    units = {"": "", "distance": distance}
    infos = [
        MetricInfo(name, metric.reduction, metric.lower, units[metric.unit])
        for name, metric in parts.metrics
    ]
    return [*infos, MetricInfo("loss", "mean over images", lower=True)]


def _examples(
    parts: EvaluationParts, variables: Any, evaluation: Evaluation
) -> list[ScoredExample]:
    if parts.method.sample:
        sheet = "sheet", pictures.encode_png(evaluation.picture)
        return [ScoredExample("samples", "real above, generated below", [], [sheet])]
    chosen = _choose_images(evaluation, parts.metrics[0][0])
    return [_example(parts, variables, evaluation, *each) for each in chosen]


def _choose_images(evaluation: Evaluation, first: str) -> list[tuple[str, int]]:
    """Chooses images by the first score; returns the reason and the index of each."""
    scored = [(image[first], i) for i, image in enumerate(evaluation.per_image)]
    ranked = [i for score, i in sorted(s for s in scored if s[0] is not None)]
    if not ranked:
        return []
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    if len(ranked) == 1:
        places = {0: "the only one"}
    return [(places[i], ranked[i]) for i in sorted(places, reverse=True)]


def _example(
    parts: EvaluationParts,
    variables: Any,
    evaluation: Evaluation,
    reason: str,
    index: int,
) -> ScoredExample:
    """Predicts an image again, and draws it."""
    example, task = parts.test[index], parts.prediction.task
    case = predict_case(parts, variables, parts.test, index)
    drawn = {
        "image": pictures.draw_image(resample_image_back(parts, example)),
        **draw_panels(parts, case),
    }
    if case.probabilities is not None:
        share = 0.5 if task.overlapping else 1 / case.num_classes
        even = np.full((1, case.num_classes), share)  # of the highest entropy
        uncertainty = compute_entropy(task, case.probabilities)
        top = float(task.entropy(even)[0])
        drawn["uncertainty"] = pictures.draw_heat_map(uncertainty, top=top)
    image = evaluation.per_image[index]
    scores = [(name, image[name]) for name, _ in parts.metrics]
    files = [
        (title, pictures.encode_png(pictures.thin_out(picture, MAX_SIZE)))
        for title, picture in drawn.items()
    ]
    return ScoredExample(reason, image["id"], scores, files)


def _reliability(evaluation: Evaluation) -> ReliabilityBins | None:
    if evaluation.reliability is None:
        return None
    return ReliabilityBins(*tabulate_reliability(evaluation.reliability).values())


def _legend(parts: EvaluationParts) -> Legend:
    """Returns the colours of the errors and, unless objects are drawn, the classes."""
    task = parts.prediction.task
    preprocessing = parts.prediction.preprocessing
    if parts.method.sample:
        return []
    if not task.classes:
        return [("error: too low", pictures.TOO_LOW), ("too high", pictures.TOO_HIGH)]
    names, colours = preprocessing["classes"], preprocessing["colours"]
    classes = zip(names, map(tuple, colours), strict=True)
    return [
        *(() if task.finds_objects else classes),
        ("error: class id too low (false negative)", pictures.TOO_LOW),
        ("error: class id too high (false positive)", pictures.TOO_HIGH),
    ]
