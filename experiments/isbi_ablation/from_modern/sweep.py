"""One change of isbi_modern at a time: its norm, optimizer, loss, images and network.

All points have the same number of steps, except that `width_16` has a third of them:
it takes about the same time, because its network has twice as many channels.
"""

base = "configs/isbi_modern.py"
seeds = (0, 1, 2)
scores = ("test/v_rand", "test/pixel_error", "val/v_rand", "val/pixel_error")
STEPS = 600
WIDTHS = (8, 16, 32, 64)  # half of isbi_modern
fields = {
    "steps": STEPS,
    "batch_size": 2,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "model.widths": WIDTHS,
    "predict.tta": "none",
    "metrics": tuple({"name": n} for n in ("v_rand", "pixel_error", "v_info", "dice")),
}

ADAMW = {"name": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01, "clip": 1.0}
SGD = {"name": "sgd", "learning_rate": 1e-2, "momentum": 0.99, "clip": 1.0}
EXACT = ({"name": "flip"}, {"name": "turn"})
CROSS_ENTROPY = {"name": "cross_entropy"}
DICE = {"name": "dice", "smooth": 1.0}
GREY = (
    {"name": "brightness", "sigma": 0.1},
    {"name": "contrast", "low": 0.8, "high": 1.25},
    {"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5},
)
FEW = STEPS // 3


def points() -> dict[str, dict]:
    """Returns the fields that differ from isbi_modern."""
    return {
        "modern": {},
        "norm_group": {"model.norm": "group"},
        "norm_instance": {"model.norm": "instance"},
        "norm_none": {"model.norm": "none"},
        "rate_1e-3": {"optimizer": {**ADAMW, "learning_rate": 1e-3}},
        "sgd": {"optimizer": SGD},
        "constant": {"schedule": {"name": "constant", "warmup": 100}},
        "ema": {"ema": 0.98},
        "cross_entropy": {"loss": (CROSS_ENTROPY,)},
        "dice": {"loss": (DICE,)},
        "no_flips": {"augment": ()},
        "elastic": {"augment": (*EXACT, {"name": "elastic", "sigma": 10.0, "grid": 3})},
        "rotation": {"augment": (*EXACT, {"name": "rotation", "degrees": 45.0})},
        "scale": {"augment": (*EXACT, {"name": "scale", "low": 0.7, "high": 1.4})},
        "grey": {"augment": (*EXACT, *GREY)},
        "views": {"predict.tta": "d4"},
        "deep_supervision": {"model.deep_supervision": True},
        "residual_encoder": {"model.encoder": "residual"},
        "width_16": {
            "model.widths": tuple(2 * width for width in WIDTHS),
            "steps": FEW,
            "eval_every": FEW,
            "checkpoint_every": FEW,
            "schedule": {"name": "cosine", "warmup": FEW // 6},
        },
    }
