"""With and without the border weight map, three seeds each."""

from collections.abc import Iterator

CONFIG = "configs/quickstart.py"
MAPS = {
    "uniform": "{'name':'uniform'}",
    "border": "{'name':'border','w0':10.0,'sigma':5.0,'balance':False}",
}
SEEDS = (0, 1, 2)


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each run and what it changes."""
    for name, weight_map in MAPS.items():
        for seed in SEEDS:
            # cross-entropy alone: the map is what is asked about
            yield (
                f"{name}-{seed}",
                {
                    "weight_map": weight_map,
                    "seed": str(seed),
                    "loss": "({'name':'cross_entropy'},)",
                },
            )
