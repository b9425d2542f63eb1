"""The properties of a run in words, for its column in a comparison."""

from collections.abc import Sequence

from unet_jax.run.comparison.run_record import RunRecord
from unet_jax.text import UNDEFINED, format_duration, join_different, listing

COMMIT_LETTERS = 12


def describe_state(record: RunRecord) -> str:
    """Returns 'finished', or how far the run is."""
    progress, trained = _describe_progress(record)
    if record.about is None:
        return "trained, not scored" if trained else f"unfinished: {progress}"
    sessions = record.about.provenance.training
    if sessions and record.steps > max(session.steps[1] for session in sessions):
        return f"continued after its scores: {progress}"
    return "finished"


def _describe_progress(record: RunRecord) -> tuple[str, bool]:
    """Returns how far the training is, and True if it is complete."""
    if record.folds:
        done, folds = record.folds
        return f"{done} of {folds} folds scored", done == folds
    steps, planned = record.steps, record.config.get("steps")
    if not isinstance(planned, int):
        return f"step {steps:,d}", False
    return f"step {steps:,d} of {planned:,d}", steps >= planned


def list_facts(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Returns the properties of the runs that at least one of them has."""
    rows = [
        ("folder", [str(record.folder) for record in records]),
        ("state", [describe_state(record) for record in records]),
        ("steps", [f"{record.steps:,d}" for record in records]),
        ("scored checkpoint", [_describe_step(record) for record in records]),
        ("classes", [", ".join(record.classes) for record in records]),
        ("images", [_describe_images(record) for record in records]),
        ("test images", [_describe_test_images(record) for record in records]),
        ("training time", [_describe_time(record) for record in records]),
        ("parameters", [_describe_parameters(record) for record in records]),
        ("started", [_describe_start(record) for record in records]),
        ("code", [_describe_versions(record, code=True) for record in records]),
        ("packages", [_describe_versions(record, code=False) for record in records]),
    ]
    return [
        (name, [cell or UNDEFINED for cell in cells])
        for name, cells in rows
        if any(cells)
    ]


def _describe_step(record: RunRecord) -> str:
    step = record.about and record.about.step
    return f"step {step:,d}" if step is not None else ""


def _describe_images(record: RunRecord) -> str:
    """Returns '18 train, 6 val, 6 test', of the first session of the training."""
    sessions = record.about.provenance.training if record.about else []
    counts = sessions[0].images if sessions else {}
    return ", ".join(f"{count:,d} {split}" for split, count in counts.items())


def _describe_test_images(record: RunRecord) -> str:
    """Returns the names of the first test images."""
    return listing(sorted(record.test_ids), 3)


def _describe_time(record: RunRecord) -> str:
    seconds = record.about and record.about.provenance.training_seconds
    if seconds is None and record.history:
        found = [row["seconds"] for row in record.history if row.get("seconds")]
        seconds = found[-1] if found else None
    return "" if seconds is None else format_duration(seconds)


def _describe_parameters(record: RunRecord) -> str:
    count = record.about and record.about.provenance.parameters
    return "" if count is None else f"{count:,d}"


def _describe_start(record: RunRecord) -> str:
    sessions = record.about.provenance.training if record.about else []
    return sessions[0].started[:16].replace("T", " ") if sessions else ""


def _describe_versions(record: RunRecord, *, code: bool) -> str:
    """Returns the versions of this package, or those of the packages that it uses."""
    if record.about is None:
        return ""
    account = record.about.provenance
    sessions = [
        *account.training,
        *([account.evaluation] if account.evaluation else []),
    ]
    own = ("unet_jax", "commit")
    found: dict[str, list[str]] = {}
    for session in sessions:
        for name, version in session.versions.items():
            if version and (name in own) == code:
                dirty = "-dirty" * version.endswith("-dirty")
                text = version[:COMMIT_LETTERS] + dirty if name == "commit" else version
                found.setdefault(name, []).append(text)
    return ", ".join(f"{name} {join_different(each)}" for name, each in found.items())
