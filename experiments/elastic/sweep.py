"""Three recipes of augmentation on four training images, three seeds each."""

from collections.abc import Iterator

CONFIG = "quickstart"
FLIP = "{'name':'flip'}"
ROTATION = "{'name':'rotation','degrees':180.0}"
ELASTIC = "{'name':'elastic','sigma':6.0,'grid':3}"
RECIPES = {
    "none": "()",
    "rigid": f"({FLIP},{ROTATION})",
    "elastic": f"({FLIP},{ROTATION},{ELASTIC})",
}
SEEDS = (0, 1, 2)
CLASSES = {  # the quickstart finds objects; this experiment compares classes
    "task": "{'name':'semantic'}",
    "loss": "({'name':'cross_entropy'},{'name':'dice'})",
    "metrics": "({'name':'dice'},)",
}


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the name of each run and the fields that it sets."""
    for name, augment in RECIPES.items():
        for seed in SEEDS:
            yield (
                f"{name}-{seed}",
                {
                    "augment": augment,
                    "seed": str(seed),
                    "data.train": "4",
                    "data.val": "4",
                    "data.test": "32",
                    "model.widths": "8,16,32",
                    **CLASSES,
                },
            )
