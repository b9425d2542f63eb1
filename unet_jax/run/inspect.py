"""Mode `inspect`: reads the whole data set, and reports statistics and problems."""

from collections.abc import Collection
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.dataset import survey_splits
from unet_jax.build.field_checks import to_plain
from unet_jax.checkpoint import list_steps
from unet_jax.data.dataset_report import DatasetReport, Issue
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report.contents import Inspection, PlanSummary
from unet_jax.run import run_folder
from unet_jax.run.inspection import examples, statistics, text
from unet_jax.run.planning import planner

JSON, PAGE, PLAN = "inspect.json", "inspect.html", "plan.py"


def inspect(config: ConfigDict, workdir: Path, *, given: Collection[str] = ()) -> int:
    """Writes `inspect.json`, `inspect.html` and, if there are no errors, `plan.py`.

    The data are checked first, and the result is printed and written. Then a plan is
    measured, for at most about `config.plan.seconds`. A run in the folder is left as it
    is.

    Args:
      config: the config.
      workdir: the folder to write to.
      given: the fields that the command line sets; the plan keeps their values.

    Returns:
      1 if the data have errors, else 0.

    Raises:
      UserError: a field of the config is wrong, the data cannot be found, the folder
        cannot be written to, or no plan is possible.
    """
    if jax.process_index() != 0:
        return 0
    run_folder.create(workdir)
    splits = survey_splits(config, run_folder.find_notes(workdir, config))
    report = splits.report
    assert report is not None  # survey_splits measures the records
    inspection = _inspection(splits, report)
    for line in text.describe_issues(inspection):
        logs.say(line)
    for line in text.describe_data(inspection, logs.find_line_width()):
        logs.say(line)
    _write(workdir, report, inspection)
    # Training does not read the files again. A run keeps the survey of its beginning.
    if SURVEY_FILE in splits.notes and not list_steps(workdir):
        run_folder.write_json(workdir / SURVEY_FILE, splits.notes[SURVEY_FILE])
    logs.say(f"wrote {workdir}/: {JSON}, {PAGE}")
    if report.errors:
        return 1
    if not config.plan.seconds:
        return 0
    try:
        plan = _write_plan(config, splits, report, workdir, given)
    except UserError as error:
        issue = Issue("error", "plan", str(error))
        _write(workdir, report, inspection._replace(issues=(issue, *inspection.issues)))
        raise UserError(f"{report.root}: cannot plan: {error}") from error
    for line in text.describe_plan(plan, logs.find_line_width()):
        logs.say(line)
    logs.say(f"train it with: {plan.command}")
    _write(workdir, report, inspection._replace(plan=plan))
    logs.say(f"wrote {workdir}/: {PLAN}, and the plan in {JSON}, {PAGE}")
    return 0


def _inspection(splits: Splits, report: DatasetReport) -> Inspection:
    return Inspection(
        title=report.root,
        issues=report.issues,
        decisions=report.decisions,
        splits=statistics.split_statistics(report, background=splits.train.background),
        mask_values=statistics.mask_values(report),
        channels=statistics.channel_statistics(report),
        examples=examples.draw_examples(splits, report),
        legend=examples.class_legend(splits.train, report),
        duplicates=examples.draw_duplicates(splits, report),
    )


def _write(workdir: Path, report: DatasetReport, inspection: Inspection) -> None:
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.render import render_inspection

    run_folder.write_json(workdir / JSON, text.as_json(report, inspection))
    logs.write_file(workdir / PAGE, render_inspection(inspection).encode())


def _write_plan(
    config: ConfigDict,
    splits: Splits,
    report: DatasetReport,
    workdir: Path,
    given: Collection[str],
) -> PlanSummary:
    """Writes the plan as a config file."""
    made = planner.plan_training(config, report, splits, given)
    path = workdir / PLAN
    logs.write_file(path, planner.format_plan(made, report.root).encode())
    return PlanSummary(
        choices=[
            (field, repr(to_plain(value)), why) for field, value, why in made.fields
        ],
        memory=made.memory,
        seconds=made.seconds,
        device=made.device,
        command=f"python main.py --config={path}",
    )
