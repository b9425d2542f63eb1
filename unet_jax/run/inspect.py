"""The verb `inspect`: reads everything, trains nothing, and says what it found."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.dataset import survey_splits
from unet_jax.data.account import Account, Fault
from unet_jax.data.folders.splits import SURVEY_FILE
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.report import Inspection, inspected
from unet_jax.report.findings import Advice
from unet_jax.run import folder, planning
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
    folder.create(workdir)
    splits = survey_splits(config, folder.find_notes(workdir, config))
    inspection = _inspection(splits)
    for line in telling.lines(inspection):
        logs.say(line)
    _write(workdir, splits.account, inspection)
    if SURVEY_FILE in splits.notes:  # so that training does not read the files again
        folder.write_json(workdir / SURVEY_FILE, splits.notes[SURVEY_FILE])
    written = [JSON, PAGE]
    if not splits.account.errors:
        inspection = _planned(config, splits, workdir, inspection)
        _write(workdir, splits.account, inspection)
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
        fault = Fault("error", "plan", str(error))
        logs.say(f"error: there is no plan: {error}")
        return inspection._replace(faults=(fault, *inspection.faults))
    for line in telling.plan(advice):
        logs.say(line)
    return inspection._replace(advice=advice)


def _write(workdir: Path, account: Account, inspection: Inspection) -> None:
    text = json.dumps(telling.as_json(account, inspection), indent=2) + "\n"
    logs.write_file(workdir / JSON, text.encode())
    logs.write_file(workdir / PAGE, inspected(inspection).encode())


def _plan(config: ConfigDict, splits: Splits, workdir: Path) -> Advice:
    """Writes the plan beside, as a config that can be run."""
    made = planning.plan_training(config, splits.account, splits)
    path = workdir / PLAN
    logs.write_file(path, planning.format_plan(made, splits.account.root).encode())
    return Advice(
        choices=[(field, _plain(value), why) for field, value, why in made.fields],
        memory=made.memory,
        seconds=made.seconds,
        device=made.device,
        command=f"{logs.program()} --config={path}",
    )


def _plain(value: Any) -> str:
    """A field of a config as it is written on the command line."""
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)


def _inspection(splits: Splits) -> Inspection:
    account = splits.account
    return Inspection(
        title=account.root,
        faults=account.faults,
        said=account.said,
        parts=summary.parts(account),
        values=summary.values(account),
        channels=summary.channels(account),
        examples=examples.examples(splits, account),
        legend=examples.legend(splits.train),
        pairs=examples.pairs(splits, account),
    )
