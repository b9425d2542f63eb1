"""The verb `inspect`: reads the whole data set, and reports statistics and problems."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.dataset import survey_splits
from unet_jax.data.dataset_report import DatasetReport, Issue
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report import Inspection
from unet_jax.report.contents import PlanSummary
from unet_jax.run import folder, planning
from unet_jax.run.inspection import examples, statistics, text

JSON, PAGE, PLAN = "inspect.json", "inspect.html", "plan.py"


def inspect(config: ConfigDict, workdir: Path) -> int:
    """Writes `inspect.json`, `inspect.html` and, if there are no errors, `plan.py`.

    A run in the folder is left as it is.

    Returns:
      1 if a problem keeps a run from starting, else 0.

    Raises:
      UserError: a field of the config is wrong, the data cannot be found, or the folder
        cannot be written to.
    """
    if jax.process_index() != 0:
        return 0
    folder.create(workdir)
    splits = survey_splits(config, folder.find_notes(workdir, config))
    report = splits.report
    assert report is not None  # survey_splits measures the records
    inspection = _inspection(splits, report)
    for line in text.describe_inspection(inspection):
        logs.say(line)
    _write(workdir, report, inspection)
    if SURVEY_FILE in splits.notes:  # so that training does not read the files again
        folder.write_json(workdir / SURVEY_FILE, splits.notes[SURVEY_FILE])
    written = [JSON, PAGE]
    if not report.errors:
        inspection = _with_plan(config, splits, report, workdir, inspection)
        _write(workdir, report, inspection)
        written += [PLAN] * (inspection.plan is not None)
    logs.say(f"wrote {workdir}/: {', '.join(written)}")
    return 1 if any(level == "error" for level, _, _ in inspection.issues) else 0


def _inspection(splits: Splits, account: DatasetReport) -> Inspection:
    return Inspection(
        title=account.root,
        issues=account.issues,
        decisions=account.decisions,
        splits=statistics.split_statistics(account),
        mask_values=statistics.mask_values(account),
        channels=statistics.channel_statistics(account),
        examples=examples.draw_examples(splits, account),
        legend=examples.class_legend(splits.train),
        duplicates=examples.draw_duplicates(splits, account),
    )


def _write(workdir: Path, account: DatasetReport, inspection: Inspection) -> None:
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.render import render_inspection

    data = json.dumps(text.as_json(account, inspection), indent=2) + "\n"
    logs.write_file(workdir / JSON, data.encode())
    logs.write_file(workdir / PAGE, render_inspection(inspection).encode())


def _with_plan(
    config: ConfigDict,
    splits: Splits,
    account: DatasetReport,
    workdir: Path,
    inspection: Inspection,
) -> Inspection:
    """Adds a plan, or an error if no plan is possible."""
    try:
        summary = _write_plan(config, splits, account, workdir)
    except UserError as error:
        issue = Issue("error", "plan", str(error))
        logs.say(f"error: there is no plan: {error}")
        return inspection._replace(issues=(issue, *inspection.issues))
    for line in text.describe_plan(summary):
        logs.say(line)
    return inspection._replace(plan=summary)


def _write_plan(
    config: ConfigDict, splits: Splits, account: DatasetReport, workdir: Path
) -> PlanSummary:
    """Writes the plan as a config file."""
    made = planning.plan_training(config, account, splits)
    path = workdir / PLAN
    logs.write_file(path, planning.format_plan(made, account.root).encode())
    return PlanSummary(
        choices=[(field, _as_flag(value), why) for field, value, why in made.fields],
        memory=made.memory,
        seconds=made.seconds,
        device=made.device,
        command=f"python main.py --config={path}",
    )


def _as_flag(value: Any) -> str:
    """Formats a value of a config as on the command line."""
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)
