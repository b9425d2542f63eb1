"""Touching nuclei by classes and a watershed, and by vectors; three seeds each."""

from collections.abc import Iterator

CONFIG = "configs/folder.py"
TASKS = {
    "semantic": {"predict.postprocess": "({'name':'watershed'},)"},
    "flow": {"task": "{'name':'flow'}"},
    "flow_all": {"task": "{'name':'flow','flow_threshold':0.0}"},  # keeps all objects
}
SEEDS = (0, 1, 2)
SMALL = {  # what two CPU cores learn in minutes
    "steps": "400",
    "eval_every": "400",
    "checkpoint_every": "400",
    "crop": "128,128",
    "model.widths": "16,32,64,128",
}
# Exact moves only: a rotation fills its corners with mirrored halves of nuclei.
AUGMENT = (
    "({'name':'flip'},{'name':'turn'},{'name':'brightness','sigma':0.1},"
    "{'name':'gamma','low':0.7,'high':1.5,'probability':0.5})"
)
METRICS = (
    "({'name':'average_precision','thresholds':(0.5,)},{'name':'average_precision'},"
    "{'name':'seg'},{'name':'dice'})"
)


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each run and the fields that it sets."""
    for seed in SEEDS:
        for task, fields in TASKS.items():
            yield (
                f"{task}-{seed}",
                {
                    "seed": str(seed),
                    **SMALL,
                    "augment": AUGMENT,
                    "metrics": METRICS,
                    **fields,
                },
            )
