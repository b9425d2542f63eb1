"""Training plans: values for the fields of a config, and the cost of a step."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build import binding, checks
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import RecordStats
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report.formatting import format_bytes, format_duration
from unet_jax.run.planning import config_file, cost, memory_search, rules
from unet_jax.run.planning.rules import PlannedField


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
    config: ConfigDict, report: DatasetReport, splits: Splits
) -> TrainingPlan:
    """Chooses crop, batch size, network and other fields, and times a few steps.

    The plan sets the spacing, the normalisation, the weight map, the crop, the widths,
    the batch size and the sampling. It keeps a spacing, a weight map or a sampling that
    the config sets, and all other fields.

    Raises:
      UserError: the config is wrong, there are no training images, or the devices do
        not have enough memory.
    """
    checks.check_fields(config)
    if jax.process_count() > 1:
        raise UserError(
            "--mode=inspect measures its plan in one process; start a single process"
        )
    records = _select_training_records(report)
    spacing = rules.choose_spacing(report.records)
    if config.spacing:
        kept = tuple(config.spacing)
        spacing = PlannedField("spacing", kept, "kept from the config")
    weights = _choose_weight_map(config, report.classes, records)
    of_data = (spacing, rules.choose_normalization(records), weights)
    draft = memory_search.set_fields(config, of_data)
    draft.name = f"{config.name}-plan"
    images = memory_search.resample_shapes(records, spacing.value)
    fitted = memory_search.fit_to_memory(draft, splits, records, images)
    config = fitted.config
    seconds = cost.measure_step_time(config, fitted.compiled)
    times = config.steps * config.batch_size / len(records)
    steps = (
        f"kept from the config: {times:.3g} times each of the {len(records)} images, "
        f"in {format_duration(config.steps * seconds)}"
    )
    return TrainingPlan(
        config=config,
        fields=(*of_data, *fitted.fields, PlannedField("steps", config.steps, steps)),
        memory=fitted.compiled.memory,
        seconds=1000 * seconds,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    )


def format_plan(plan: TrainingPlan, title: str) -> str:
    """Returns a plan for a data set, the title, as the source of a config file."""
    reasons: dict[str, str] = {}
    for field, _, reason in plan.fields:
        outer, _, inner = field.partition(".")
        reasons[outer] = f"{inner}: {reason}" if inner else reason
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


def _choose_weight_map(
    config: ConfigDict, classes: Sequence[str], records: Sequence[RecordStats]
) -> PlannedField:
    """Weights pixels by class frequency if a class is rare and the config sets none."""
    shares = rules.compute_class_shares(records)
    rare, reason = rules.find_rarest_class(shares, classes)
    given = checks.to_plain(config.weight_map)
    if given["name"] != "uniform":
        return PlannedField("weight_map", given, f"kept from the config; {reason}")
    if not rare or binding.build_task(config, binding.ANY_DATA).overlapping:
        return PlannedField("weight_map", given, f"equal weights; {reason}")
    rounded = tuple(float(f"{shares.get(k, 0):.4g}") for k in range(len(classes)))
    value = {"name": "frequency", "power": 0.5, "shares": rounded}
    return PlannedField("weight_map", value, reason)
