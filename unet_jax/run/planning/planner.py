"""Training plans: values for the fields of a config, and the cost of a step."""

import functools
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax import logs, parallel
from unet_jax.build import binding, field_checks
from unet_jax.build.fields import find_overlap
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import RecordStats
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report.formatting import format_bytes
from unet_jax.run.planning import config_file, drafts, rules, search
from unet_jax.run.planning.rules import PlannedField
from unet_jax.text import format_duration

# The fields that a plan chooses, unless the user has set them.
PLANNED = (
    "spacing",
    "normalize",
    "weight_map",
    "crop",
    "model.widths",
    "batch_size",
    "sampling",
)


class TrainingPlan(NamedTuple):
    """A config for a data set, with its measured cost.

    Attributes:
      config: the config of a complete run.
      fields: the planned values and their reasons; some are as they were before.
      memory: bytes of the compiled step on each device; 0 if not known.
      seconds: time of 1000 steps, including reading the data.
      device: the devices of the measurement: '1 x cpu'.
    """

    config: ConfigDict
    fields: tuple[PlannedField, ...]
    memory: int
    seconds: float
    device: str


def plan_training(
    config: ConfigDict,
    report: DatasetReport,
    splits: Splits,
    given: Collection[str] = (),
) -> TrainingPlan:
    """Chooses crop, batch size, network and other fields, and times a few steps.

    The plan sets the spacing, the normalisation, the weight map, the sampling, the
    crop, the widths and the batch size. It keeps a spacing, a weight map or a sampling
    that the config sets. It lowers the number of steps if the run would take longer
    than `config.plan.hours`. The measurements end after `config.plan.seconds`.

    Args:
      config: the config.
      report: measurements of the data set.
      splits: the data set.
      given: the fields that the user has set, such as 'crop'; they keep their values.

    Raises:
      UserError: the config is wrong, there are no training images, or the devices do
        not have enough memory.
    """
    deadline = time.monotonic() + config.plan.seconds
    field_checks.check_fields(config)
    if jax.process_count() > 1:
        raise UserError(
            "--mode=inspect measures its plan in one process; start a single process"
        )
    records = _select_training_records(report)
    background = splits.train.background
    of_data = (
        _choose_spacing(config, report.records),
        rules.choose_normalization(records, background=background),
        _choose_weight_map(config, report.classes, records),
    )
    of_data = tuple(f for f in of_data if not find_overlap(f.field, given))
    draft = drafts.set_fields(config, of_data)
    draft.name = f"{config.name}-plan"
    images = drafts.resample_shapes(records, tuple(draft.spacing))
    budget = search.TRAINING_SHARE * 3600 * config.plan.hours
    limits = search.Limits(
        memory=search.MEMORY_SHARE * parallel.local_devices().read_free_memory(),
        step_seconds=budget / config.steps,
        deadline=deadline,
    )
    found = drafts.make_candidates(draft, records, images, given, background=background)
    trial, reason = search.search(found, splits, limits)
    fields = _explain_limit(trial.candidate, found, reason)
    seconds = trial.step_seconds
    steps = _choose_steps(config, len(records), trial, budget, given)
    of_user = [
        PlannedField(name, _value_of(config, name), "given by the user")
        for name in PLANNED
        if find_overlap(name, given)
    ]
    return TrainingPlan(
        config=drafts.set_fields(trial.candidate.config, steps),
        fields=(*of_data, *fields, *of_user, *steps),
        memory=int(trial.memory),
        seconds=1000 * seconds,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    )


def format_plan(plan: TrainingPlan, title: str) -> str:
    """Returns a plan for a data set, the title, as the source of a config file."""
    reasons: dict[str, str] = {}
    for field, _, reason in plan.fields:
        outer, _, inner = field.partition(".")
        reason = f"{inner}: {reason}" if inner else reason
        reasons[outer] = "; ".join(filter(None, (reasons.get(outer), reason)))
    measured = f"{format_bytes(plan.memory)} on each device, " if plan.memory else ""
    measured += f"{format_duration(plan.seconds)} for 1000 steps including reading"
    notes = {
        "Plan": "written by --mode=inspect from the measured training images",
        "Command": f"{logs.program()} --config=THIS_FILE",
        "Measured": f"{measured}, on {plan.device}",
    }
    return config_file.format_config(
        plan.config, f"A plan for {title}.", notes, reasons
    )


def _select_training_records(report: DatasetReport) -> list[RecordStats]:
    """Returns the measurements of the training images, or of all without splits."""
    records = [r for r in report.records if r.split == "train"] or list(report.records)
    if not records:
        raise UserError(
            f"{report.root} holds no images to plan for; add images, or correct "
            "config.data"
        )
    axes = sorted({len(record.shape) for record in records})
    if len(axes) > 1:
        found = " and ".join(map(str, axes))
        raise UserError(
            f"{report.root} holds images with {found} spatial axes; keep one kind"
        )
    return records


def _choose_steps(
    config: ConfigDict,
    images: int,
    trial: search.Trial,
    budget: float,
    given: Collection[str],
) -> tuple[PlannedField, ...]:
    """Keeps the number of steps, or lowers it to what ends within the budget."""
    seconds, batch = trial.step_seconds, trial.candidate.config.batch_size
    steps, kept = config.steps, find_overlap("steps", given)
    too_long = steps * seconds > budget
    if too_long and not kept:
        steps = max(int(budget / seconds), 1)
        steps -= steps % 10 ** max(len(str(steps)) - 2, 0)  # two digits
    each = f"{steps * batch / images:.3g} times each of the {images} images"
    reason = f"{each}, in {format_duration(steps * seconds)} without evaluation"
    if too_long:
        hours = f"config.plan.hours={config.plan.hours:g}"
        reason += f"; longer than {hours}" if kept else f"; as many as end in {hours}"
    fields = [PlannedField("steps", steps, reason)]
    for field in ("eval_every", "checkpoint_every"):
        if config[field] > steps and not find_overlap(field, given):
            value = max(steps // 4, 1)
            fields.append(PlannedField(field, value, "a quarter of the steps"))
    return tuple(fields)


def _explain_limit(
    chosen: drafts.Candidate, found: Sequence[drafts.Candidate], reason: str
) -> tuple[PlannedField, ...]:
    """Returns the fields of a candidate, with the reason why it is not larger."""
    names = [field.field for field in chosen.fields]
    larger_crop = tuple(found[-1].config.crop) != tuple(chosen.config.crop)
    limited = "crop" if larger_crop else "batch_size"
    if not reason or limited not in names:
        return chosen.fields
    return tuple(
        field._replace(reason="; ".join(filter(None, (field.reason, reason))))
        if field.field == limited
        else field
        for field in chosen.fields
    )


def _value_of(config: ConfigDict, field: str) -> Any:
    return field_checks.to_plain(functools.reduce(getattr, field.split("."), config))


def _choose_spacing(config: ConfigDict, records: Sequence[RecordStats]) -> PlannedField:
    if config.spacing:
        return PlannedField("spacing", tuple(config.spacing), "kept from the config")
    return rules.choose_spacing(records)


def _choose_weight_map(
    config: ConfigDict, classes: Sequence[str], records: Sequence[RecordStats]
) -> PlannedField:
    """Weights pixels by class frequency if a class is rare and the config sets none."""
    shares = rules.compute_class_shares(records)
    rare, reason = rules.find_rarest_class(shares, classes)
    given = field_checks.to_plain(config.weight_map)
    if given["name"] != "uniform":
        return PlannedField("weight_map", given, f"kept from the config; {reason}")
    if not rare or binding.build_task(config, binding.ANY_DATA).overlapping:
        return PlannedField("weight_map", given, f"equal weights; {reason}")
    rounded = tuple(float(f"{shares.get(k, 0):.4g}") for k in range(len(classes)))
    value = {"name": "frequency", "power": 0.5, "shares": rounded}
    return PlannedField("weight_map", value, reason)
