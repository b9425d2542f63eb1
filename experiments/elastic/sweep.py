"""Three recipes of augmentation on four training images, three seeds each."""

base = "quickstart"
seeds = (0, 1, 2)
scores = ("test/dice/cell",)
fields = {
    "data.train": 4,
    "data.val": 4,
    "data.test": 32,
    "model.widths": (8, 16, 32),
    # the quickstart finds objects; this experiment compares classes
    "task": {"name": "semantic"},
    "loss": ({"name": "cross_entropy"}, {"name": "dice"}),
    "metrics": ({"name": "dice"},),
}


def points() -> dict[str, dict]:
    """Returns the augmentation of each recipe."""
    rigid = {"name": "flip"}, {"name": "rotation", "degrees": 180.0}
    elastic = {"name": "elastic", "sigma": 6.0, "grid": 3}
    return {
        "none": {"augment": ()},
        "rigid": {"augment": rigid},
        "elastic": {"augment": (*rigid, elastic)},
    }
