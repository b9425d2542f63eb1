"""The verb `inspect`: reads everything, trains nothing, and says what it found."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.surveying import survey
from unet_jax.data.dataset_report import DatasetReport, Issue
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report import Inspection, inspected
from unet_jax.report.findings import Advice
from unet_jax.run import folder, plan
from unet_jax.run.findings import examples, summary, telling

JSON, PAGE, PLAN = "inspect.json", "inspect.html", "plan.py"


def inspect(config: ConfigDict, workdir: Path) -> int:
    """Writes `inspect.json`, `inspect.html` and, of sound data, `plan.py`.

    A run that lives in the folder is left as it is.

    Returns:
      1 where something keeps a run from starting, else 0.

    Raises:
      UserError: a field of the config is wrong, the data cannot be found, or the folder
        cannot be written to.
    """
    if jax.process_index() != 0:
        return 0
    folder.make(workdir)
    splits = survey(config, folder.notes(workdir, config))
    inspection = _inspection(splits)
    for line in telling.lines(inspection):
        logs.say(line)
    _write(workdir, splits.report, inspection)
    if SURVEY_FILE in splits.notes:  # so that training does not read the files again
        folder.write_json(workdir / SURVEY_FILE, splits.notes[SURVEY_FILE])
    written = [JSON, PAGE]
    if not splits.report.errors:
        inspection = _planned(config, splits, workdir, inspection)
        _write(workdir, splits.report, inspection)
        written += [PLAN] * (inspection.advice is not None)
    logs.say(f"wrote {workdir}/: {', '.join(written)}")
    return 1 if any(level == "error" for level, _, _ in inspection.faults) else 0


def _planned(
    config: ConfigDict, splits: Splits, workdir: Path, inspection: Inspection
) -> Inspection:
    """With a plan; that none can be made is one more error."""
    try:
        advice = _plan(config, splits, workdir)
    except UserError as error:
        fault = Issue("error", "plan", str(error))
        logs.say(f"error: there is no plan: {error}")
        return inspection._replace(faults=(fault, *inspection.faults))
    for line in telling.plan(advice):
        logs.say(line)
    return inspection._replace(advice=advice)


def _write(workdir: Path, account: DatasetReport, inspection: Inspection) -> None:
    text = json.dumps(telling.as_json(account, inspection), indent=2) + "\n"
    logs.write(workdir / JSON, text.encode())
    logs.write(workdir / PAGE, inspected(inspection).encode())


def _plan(config: ConfigDict, splits: Splits, workdir: Path) -> Advice:
    """Writes the plan beside, as a config that can be run."""
    made = plan.plan(config, splits.report, splits)
    path = workdir / PLAN
    logs.write(path, plan.written(made, splits.report.root).encode())
    return Advice(
        choices=[(field, _plain(value), why) for field, value, why in made.choices],
        memory=made.memory,
        seconds=made.seconds,
        device=made.device,
        command=f"python main.py --config={path}",
    )


def _plain(value: Any) -> str:
    """A field of a config as it is written on the command line."""
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)


def _inspection(splits: Splits) -> Inspection:
    account = splits.report
    return Inspection(
        title=account.root,
        faults=account.issues,
        said=account.decisions,
        parts=summary.parts(account),
        values=summary.values(account),
        channels=summary.channels(account),
        examples=examples.examples(splits, account),
        legend=examples.legend(splits.train),
        pairs=examples.pairs(splits, account),
    )
