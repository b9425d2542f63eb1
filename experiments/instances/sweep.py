"""Touching nuclei by classes and a watershed, and by vectors; three seeds each."""

from collections.abc import Iterator

CONFIG = "configs/folder.py"
METRICS = (
    "({'name':'average_precision','thresholds':(0.5,)},{'name':'average_precision'},"
    "{'name':'seg'},{'name':'dice'})"
)
TASKS = {
    "semantic": {"predict.postprocess": "({'name':'watershed'},)"},
    "flow": {"task": "{'name':'flow'}"},
}
SEEDS = (0, 1, 2)


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each run and the fields that it sets."""
    for task, fields in TASKS.items():
        for seed in SEEDS:
            yield (
                f"{task}-{seed}",
                {
                    "seed": str(seed),
                    "steps": "300",
                    "eval_every": "300",
                    "checkpoint_every": "300",
                    "crop": "128,128",
                    "model.widths": "16,32,64,128",
                    "metrics": METRICS,
                    **fields,
                },
            )
