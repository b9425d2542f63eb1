"""The images of a benchmark as arrays, which every contender reads.

unet_jax splits the data, by the config of its own contenders, and the arrays are
written once. So all contenders train and are tested on the same images.

python data.py NAME ROOT CACHE   writes CACHE/NAME
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SPLITS = ("train", "val", "test")
# The config of each data set, and the fields that make its split.
SOURCES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "isbi": ("configs/isbi.py", {"data.fold": "0"}),
    "nuclei": ("configs/folder.py", {"data.channels": "3"}),
    "hippocampus": ("configs/hippocampus.py", {}),
}
ROOTS = {"isbi": "data.manual_dir", "nuclei": "data.root", "hippocampus": "data.root"}


class Sample(NamedTuple):
    """One image with its truth.

    Attributes:
      id: its name.
      image: `[*S, C]`, the raw pixels.
      label: `i32[*S]`, class ids.
      instances: `i32[*S]`, object ids, 0 = background; None if there are none.
      spacing: the size of a pixel along each axis; () if it is unknown.
    """

    id: str
    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None
    spacing: tuple[float, ...]


class Data(NamedTuple):
    """The images of a benchmark.

    Attributes:
      name: of the benchmark, a key of `SOURCES`.
      classes: the name of each class id.
      train, val, test: the samples. Contenders train on `train` alone.
    """

    name: str
    classes: tuple[str, ...]
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return self.train[0].label.ndim

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return self.train[0].image.shape[-1]


def list_overrides(name: str, root: Path, cache: Path) -> dict[str, str]:
    """Returns the fields of a config that choose the data set and its split.

    Args:
      name: of the benchmark.
      root: the folder of the data set, or of its archive.
      cache: a folder for prepared records.
    """
    fields = {**SOURCES[name][1], ROOTS[name]: str(root.resolve())}
    if name == "isbi":
        fields["data.data_dir"] = str((cache / "tfds").resolve())
    return fields


def write(name: str, root: Path, cache: Path) -> None:
    """Writes the samples of a benchmark to `cache/<name>`, unless they are there."""
    folder, source = cache / name, str(root.resolve())
    written = folder / "source.txt"
    if written.is_file():
        if written.read_text() != source:
            sys.exit(
                f"error: {folder} was made of {written.read_text()}; take other --runs"
            )
        return
    from unet_jax.build.dataset import load_splits
    from unet_jax.command import load_config

    config = load_config(SOURCES[name][0])
    for field, value in list_overrides(name, root, cache).items():
        config.update_from_flattened_dict({field: _parse(value)})
    splits = load_splits(config)
    for split, records in splits.sources.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(records.length):
            record = records.load(i)
            kept = ("id", "image", "label", "instances", "spacing")
            arrays = {key: record[key] for key in kept if key in record}
            np.savez_compressed(folder / split / f"{i:03d}.npz", **arrays)
    (folder / "classes.txt").write_text("\n".join(splits.train.classes))
    written.write_text(source)  # last, so that an interrupted call begins again


def read(folder: Path) -> Data:
    """Reads the samples that `write` has written."""
    splits: dict[str, Any] = {
        split: [_read_sample(path) for path in sorted((folder / split).glob("*.npz"))]
        for split in SPLITS
    }
    classes = tuple((folder / "classes.txt").read_text().split("\n"))
    return Data(folder.name, classes, **splits)


def normalize(image: np.ndarray) -> np.ndarray:
    """Returns `f32[C, *S]`: each channel with zero mean and unit variance."""
    image = np.moveaxis(image, -1, 0).astype(np.float32)
    over = tuple(range(1, image.ndim))
    mean, deviation = image.mean(over, keepdims=True), image.std(over, keepdims=True)
    return (image - mean) / np.maximum(deviation, 1e-6)


def _read_sample(path: Path) -> Sample:
    with np.load(path) as arrays:
        return Sample(
            str(arrays["id"]),
            arrays["image"],
            arrays["label"].astype(np.int32),
            arrays.get("instances"),
            tuple(arrays["spacing"].tolist()) if "spacing" in arrays else (),
        )


def _parse(value: str) -> Any:
    return int(value) if value.isdigit() else value


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from unet_jax.errors import UserError

    try:
        write(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except UserError as error:
        sys.exit(f"error: --{sys.argv[1]}: {error}")
