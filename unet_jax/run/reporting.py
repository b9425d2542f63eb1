"""The contents of the report of a run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.inference import compute_entropy
from unet_jax.metrics.calibration import tabulate_reliability
from unet_jax.report.contents import (
    MetricInfo,
    Provenance,
    ReliabilityBins,
    Report,
    ScoredExample,
)
from unet_jax.report.formatting import format_duration
from unet_jax.run.panels import draw_panels, make_legend
from unet_jax.run.provenance import list_changes
from unet_jax.run.scoring import (
    Evaluation,
    name_object_errors,
    predict_case,
    resample_image_back,
)

MAX_SIZE = 1024  # pixels along the longer side of a picture
WORST = 5  # images that are drawn, besides the median and the best


class Circumstances(NamedTuple):
    """The circumstances of an evaluation, for scores.json and the report.

    Attributes:
      step: of the checkpoint of the run, or of the first member of an ensemble.
      account: as `provenance.describe_run` returns it.
      absent: the classes without a pixel, by split.
      ensemble: the run folder and the step of each member; empty for a single run.
      warnings: about the members of an ensemble.
    """

    step: int
    account: Mapping[str, Any]
    absent: Mapping[str, Sequence[str]]
    ensemble: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


def render_html(
    config: ConfigDict,
    workdir: Path,
    parts: EvaluationParts,
    members: Sequence[Any],
    evaluation: Evaluation,
    circumstances: Circumstances,
) -> str:
    """Renders the report of the test split as an HTML file.

    The learning curves come from the run folder. The members are the variables of the
    networks.
    """
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.render import render_report

    report = Report(
        title=config.name,
        facts=[
            *_facts(parts, evaluation, circumstances),
            *_list_absent(circumstances.absent),
            *_list_members(circumstances),
        ],
        step=circumstances.step,
        history=logs.read_scalars(workdir),
        metrics=_metrics(parts, evaluation),
        classes=parts.prediction.task.classes,
        scores=evaluation.scores,
        images=evaluation.per_image,
        objects=_objects(evaluation),
        reliability=_reliability(evaluation),
        confusion=evaluation.confusion,
        examples=_examples(parts, members, evaluation),
        legend=make_legend(parts),
        provenance=_provenance(circumstances.account),
    )
    return render_report(report)


def describe_counted_classes(parts: EvaluationParts) -> str:
    """Returns the classes over which the mean of a score is taken, in words."""
    return "foreground classes" if parts.omits_background else "all classes"


def describe_true_objects(parts: EvaluationParts, evaluation: Evaluation) -> str | None:
    """Returns the origin of the true objects in words; None without classes."""
    if not parts.prediction.task.classes:
        return None
    if "instances" in evaluation.keys:
        return "the data set's own"
    return "face-connected components of the true classes"


def _facts(
    parts: EvaluationParts,
    evaluation: Evaluation,
    circumstances: Circumstances,
) -> list[tuple[str, str]]:
    options, account = parts.prediction.options, circumstances.account
    date = str(account["evaluation"]["started"])[:10]
    facts = [
        ("checkpoint", f"step {circumstances.step}"),
        ("test images", f"{len(evaluation.per_image):,d}"),
        ("date", date),
    ]
    for name, key in (
        ("training time", "training_seconds"),
        ("first step, with compilation", logs.FIRST_STEP),
    ):
        if account[key] is not None:
            facts.append((name, format_duration(account[key])))
    if warnings := _warnings(account):
        facts.append(("warnings", f"{len(warnings)}, listed under Provenance"))
    if options.tta != "none":
        facts.append(("test-time augmentation", options.tta))
    if options.postprocess:
        names = (spec["name"] for spec in options.postprocess)
        facts.append(("post-processing", ", ".join(names)))
    objects = describe_true_objects(parts, evaluation)
    return [*facts, ("true objects", objects)] if objects else facts


def _list_absent(absent: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    return [
        (f"classes without a pixel in {split}", ", ".join(names))
        for split, names in absent.items()
        if names
    ]


def _list_members(circumstances: Circumstances) -> list[tuple[str, str]]:
    """Returns the runs of an ensemble and its warnings, as pairs for `facts`."""
    if not circumstances.ensemble:
        return []
    runs = ", ".join(run for run, _ in circumstances.ensemble)
    return [("ensemble", runs), *(("warning", w) for w in circumstances.warnings)]


def _metrics(parts: EvaluationParts, evaluation: Evaluation) -> list[MetricInfo]:
    mean = f", mean over {describe_counted_classes(parts)}"
    distance = "spacing's units" if "spacing" in evaluation.keys else "pixels"
    units = {"": "", "distance": distance}
    infos = [
        MetricInfo(
            name,
            metric.reduction + (mean if name in evaluation.averaged else ""),
            metric.lower,
            units[metric.unit],
        )
        for name, metric in parts.metrics
    ]
    return [*infos, MetricInfo("loss", "mean over images", lower=True)]


def _examples(
    parts: EvaluationParts, members: Sequence[Any], evaluation: Evaluation
) -> list[ScoredExample]:
    if parts.method.sample:
        sheet = "sheet", pictures.encode_png(evaluation.picture)
        return [ScoredExample("samples", "real above, generated below", [], [sheet])]
    name, metric = parts.metrics[0]
    chosen = _choose_images(evaluation, name, lower=metric.lower)
    return [_example(parts, members, evaluation, *each) for each in chosen]


def _choose_images(
    evaluation: Evaluation, first: str, *, lower: bool
) -> list[tuple[str, int]]:
    """Chooses images by the first score, the worst first.

    Returns:
      The reason and the index of each: the worst ones, the median and the best.
    """
    sign = -1 if lower else 1
    scored = [(image[first], i) for i, image in enumerate(evaluation.per_image)]
    ranked = [i for _, i in sorted((sign * x, i) for x, i in scored if x is not None)]
    count = len(ranked)
    places = {i: f"{i + 1} of {count} from the worst" for i in range(min(WORST, count))}
    places |= {count // 2: "median", count - 1: "best", 0: "worst"}
    if count == 1:
        places = {0: "the only one"}
    return [(places[i], ranked[i]) for i in sorted(places) if i in range(count)]


def _example(
    parts: EvaluationParts,
    members: Sequence[Any],
    evaluation: Evaluation,
    reason: str,
    index: int,
) -> ScoredExample:
    """Predicts an image again, and draws it."""
    example, task = parts.test[index], parts.prediction.task
    case = predict_case(parts, members, parts.test, index)
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


def _objects(evaluation: Evaluation) -> dict[str, int] | None:
    counts = evaluation.object_errors
    return None if counts is None else name_object_errors(counts)


def _warnings(account: Mapping[str, Any]) -> list[str]:
    """Returns the warnings of all sessions, each once."""
    every = [*account["training"], account["evaluation"]]
    return list(dict.fromkeys(text for one in every for text in one["warnings"]))


def _provenance(account: Mapping[str, Any]) -> Provenance:
    """Returns the account of a run for its report."""
    training, evaluation = account["training"], account["evaluation"]
    every = [*training, evaluation]
    network = f"{account['network']['name']}, {account['parameters']:,d} parameters"
    facts = [("network", network)]
    for session in training[:1]:  # later ones read the split of the run folder
        images = (f"{n:,d} {split}" for split, n in session["images"].items())
        facts += [("images", ", ".join(images)), ("split", session["split"])]
    facts.append(("hardware", _join_different(map(_describe_hardware, every))))
    facts += _describe_versions(every)
    sessions = [
        (
            "trained steps {:,d} to {:,d}".format(*session["steps"]),
            session["started"],
            session["seconds"],
            session["command"],
        )
        for session in training
    ]
    if not training or evaluation["started"] != training[-1]["started"]:
        times = evaluation["started"], evaluation["seconds"]
        sessions.append(("evaluated", *times, evaluation["command"]))
    files = [session["config_file"] for session in every if session["config_file"]]
    known = any(session["changed_fields"] is not None for session in every)
    return Provenance(
        facts=facts,
        sessions=sessions,
        config_file=files[0] if files else "",
        changes=[(a, b, c) for a, b, c in list_changes(every)] if known else None,
        warnings=_warnings(account),
    )


def _join_different(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _describe_hardware(session: Mapping[str, Any]) -> str:
    hardware = session["hardware"]
    devices = f"{hardware.get('devices')} x {hardware.get('device')}"
    if hardware.get("processes", 1) != 1:
        devices += f" in {hardware['processes']} processes"
    memory = int(hardware.get("memory", 0)) / 2**30
    return (
        f"{devices}; {hardware.get('processor')}, {hardware.get('cores')} cores, "
        f"{memory:.3g} GiB"
    )


def _describe_versions(sessions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns the commits and the versions of packages, as pairs for `facts`."""
    names = dict.fromkeys(name for one in sessions for name in one["versions"])
    known = {
        name: _join_different(filter(None, (s["versions"].get(name) for s in sessions)))
        for name in names
    }
    commit = known.pop("commit", "")
    versions = ", ".join(f"{name} {text}" for name, text in known.items() if text)
    return [(k, v) for k, v in (("commit", commit), ("versions", versions)) if v]
