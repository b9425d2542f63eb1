"""The provenance of a run in words, for its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.report.contents import Provenance
from unet_jax.run.provenance import list_changes
from unet_jax.text import join_different


def list_warnings(account: Mapping[str, Any]) -> list[str]:
    """Returns the warnings of all sessions, each once."""
    every = [*account["training"], account["evaluation"]]
    return list(dict.fromkeys(text for one in every for text in one["warnings"]))


def describe_provenance(account: Mapping[str, Any], *, folds: bool) -> Provenance:
    """Returns the account of a run for its report.

    Args:
      account: the account, as `provenance.describe_run` returns it.
      folds: True if the training sessions are those of the folds of a cross-validation.
    """
    training, evaluation = account["training"], account["evaluation"]
    every = [*training, evaluation]
    network = f"{account['network']['name']}, {account['parameters']:,d} parameters"
    facts = [("network", network)]
    # later sessions of a run read the split of the run folder
    if splits := training if folds else training[:1]:
        images = join_different(_describe_images(session) for session in splits)
        facts.append(("images of each fold" if folds else "images", images))
        facts.append(("split", splits[0]["split"]))
    facts.append(("hardware", join_different(map(_describe_hardware, every))))
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
        warnings=list_warnings(account),
    )


def _describe_images(session: Mapping[str, Any]) -> str:
    return ", ".join(f"{n:,d} {split}" for split, n in session["images"].items())


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
        name: join_different(filter(None, (s["versions"].get(name) for s in sessions)))
        for name in names
    }
    commit = known.pop("commit", "")
    versions = ", ".join(f"{name} {text}" for name, text in known.items() if text)
    return [(k, v) for k, v in (("commit", commit), ("versions", versions)) if v]
