"""A plan: the fields of a config that suit a data set, and what a step of it costs."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax.build import binding, checks
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import RecordStats
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report.words import lasting, memory
from unet_jax.run.plan import config_file, cost, rules, sizing
from unet_jax.run.plan.rules import Choice


class Plan(NamedTuple):
    """What is proposed, and what was measured of it.

    Attributes:
      config: a whole run.
      choices: what was chosen and why, with fields that are well as they were.
      memory: bytes of the compiled step on each device; 0 where they are not known.
      seconds: that 1000 steps take, reading included.
      device: what it was measured on: '1 x cpu'.
    """

    config: ConfigDict
    choices: tuple[Choice, ...]
    memory: int
    seconds: float
    device: str


def plan(config: ConfigDict, account: DatasetReport, splits: Splits) -> Plan:
    """Chooses what suits the training images, and takes a few steps of it.

    The data, the kind of model and its padding, losses, augmentation, optimizer and the
    number of steps stay as the config has them, and so do a spacing, a weight map and a
    sampling that somebody has chosen.

    Args:
      config: what the plan begins with.
      account: what was found in the data.
      splits: the data.

    Raises:
      UserError: the config is wrong, there is nothing to learn from, or not the memory.
    """
    checks.fields(config)
    if jax.process_count() > 1:
        raise UserError("a plan is measured by one process; run --mode=inspect in one")
    facts = _learnt_from(account)
    spacing = rules.spacing(account.records if account.records else facts)
    if config.spacing:
        spacing = Choice("spacing", tuple(config.spacing), "as the config has it")
    weights = _weight_map(config, account.classes, facts)
    of_data = (spacing, rules.normalize(facts), weights)
    draft = sizing.changed(config, of_data)
    draft.name = f"{config.name}-plan"
    space = sizing.seen(facts, spacing.value)
    config, compiled, of_size = sizing.sized(draft, splits, facts, space)
    seconds = cost.seconds(config, compiled)
    times = config.steps * config.batch_size / len(facts)
    steps = f"as it was: {times:.3g} times each of the {len(facts)} images, in "
    steps += lasting(config.steps * seconds)
    return Plan(
        config=config,
        choices=(*of_data, *of_size, Choice("steps", config.steps, steps)),
        memory=compiled.memory,
        seconds=1000 * seconds,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    )


def written(plan: Plan, title: str) -> str:
    """The plan as a config file, Python source.

    Args:
      plan: what `plan` returned.
      title: what it is for.
    """
    reasons: dict[str, str] = {}
    for field, _, reason in plan.choices:
        outer, _, inner = field.partition(".")
        reasons[outer] = f"{inner}: {reason}" if inner else reason
    takes = f"{memory(plan.memory)} on each device, " if plan.memory else ""
    takes += f"{lasting(plan.seconds)} for 1000 steps with their reading"
    notes = {
        "Plan": "by --mode=inspect, from what was found in the training images",
        "Command": "python main.py --config=THIS_FILE",
        "Measured": f"{takes}, on {plan.device}",
    }
    return config_file.source(plan.config, f"A plan for {title}.", notes, reasons)


def _learnt_from(account: DatasetReport) -> list[RecordStats]:
    """The facts of the training images, or of all where there are no splits yet."""
    facts = [f for f in account.records if f.split == "train"] or list(account.records)
    if not facts:
        raise UserError(f"{account.root} holds no images to plan for")
    axes = sorted({len(fact.shape) for fact in facts})
    if len(axes) > 1:
        says = " and ".join(map(str, axes))
        raise UserError(f"{account.root} holds images of {says} axes; keep one kind")
    return facts


def _weight_map(
    config: ConfigDict, classes: Sequence[str], facts: Sequence[RecordStats]
) -> Choice:
    """Weights for classes of which one is rare, unless somebody has chosen others."""
    parts = rules.shares(facts)
    rare, why = rules.rarest(parts, classes)
    given = checks.plain(config.weight_map)
    if given["name"] != "uniform":
        return Choice("weight_map", given, f"as the config has it; {why}")
    if not rare or binding.task(config, binding.ANY_DATA).overlapping:
        return Choice("weight_map", given, f"all pixels count the same; {why}")
    shares = tuple(float(f"{parts.get(k, 0):.4g}") for k in range(len(classes)))
    return Choice(
        "weight_map", {"name": "frequency", "power": 0.5, "shares": shares}, why
    )
