"""One augmentation at a time, beside the flips and quarter turns of isbi_modern.

As in from_modern, which has those that interpolate: elastic, rotation and scale.
"""

base = "configs/isbi_modern.py"
seeds = (0, 1, 2)
scores = ("test/v_rand", "test/pixel_error", "val/v_rand", "val/pixel_error")
STEPS = 600
fields = {
    "steps": STEPS,
    "batch_size": 2,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "model.widths": (8, 16, 32, 64),
    "predict.tta": "none",
    "metrics": tuple({"name": n} for n in ("v_rand", "pixel_error", "v_info", "dice")),
}

FLIP, TURN = {"name": "flip"}, {"name": "turn"}
ADDED = (
    {"name": "shift", "pixels": 10.0},
    {"name": "brightness", "sigma": 0.2},
    {"name": "contrast", "low": 0.8, "high": 1.25},
    {"name": "gamma", "low": 0.7, "high": 1.5},
    {"name": "noise", "sigma": 0.2},
    {"name": "blur", "low": 0.5, "high": 1.0, "probability": 0.5},
    {"name": "low_resolution", "low": 0.5, "high": 1.0, "probability": 0.5},
)


def points() -> dict[str, dict]:
    """Returns the augmentations of each recipe."""
    return {
        "flip": {"augment": (FLIP,)},
        "flip_turn": {"augment": (FLIP, TURN)},
        **{spec["name"]: {"augment": (FLIP, TURN, spec)} for spec in ADDED},
    }
