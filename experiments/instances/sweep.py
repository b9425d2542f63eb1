"""Touching nuclei by classes and a watershed, and by vectors; three seeds each."""

base = "configs/folder.py"
seeds = (0, 1, 2)
scores = (
    "test/average_precision(thresholds=(0.5,))",
    "test/average_precision",
    "test/seg",
    "test/dice",
)
fields = {
    # what two CPU cores learn in minutes
    "steps": 400,
    "eval_every": 400,
    "checkpoint_every": 400,
    "crop": (128, 128),
    "model.widths": (16, 32, 64, 128),
    # exact moves only: a rotation fills its corners with mirrored halves of nuclei
    "augment": (
        {"name": "flip"},
        {"name": "turn"},
        {"name": "brightness", "sigma": 0.1},
        {"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5},
    ),
    "metrics": (
        {"name": "average_precision", "thresholds": (0.5,)},
        {"name": "average_precision"},
        {"name": "seg"},
        {"name": "dice"},
    ),
}


def points() -> dict[str, dict]:
    """Returns the task of each point, with its post-processing."""
    return {
        "semantic": {"predict.postprocess": ({"name": "watershed"},)},
        "flow": {"task": {"name": "flow"}},
        "flow_all": {"task": {"name": "flow", "flow_threshold": 0.0}},  # all objects
    }
