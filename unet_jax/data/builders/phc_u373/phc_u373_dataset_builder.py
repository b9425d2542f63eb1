"""PhC-C2DH-U373, from the public archive to records, with no TensorFlow."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from unet_jax.data.builders import archive, cell_tracking, storage

ARCHIVE = cell_tracking.archive("PhC-C2DH-U373")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Glioblastoma-astrocytoma U373 cells under phase contrast: two videos."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The frames that have gold truth."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{ARCHIVE.file} from {ARCHIVE.url}, or its extracted folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=storage.features(
                cell_tracking.CLASSES, channels=1, instances=True
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        path = archive.find(ARCHIVE, dl_manager)
        files = cell_tracking.read(ARCHIVE, path)
        return {
            f"sequence_{int(sequence)}": self._generate_examples(path, files, sequence)
            for sequence in cell_tracking.SEQUENCES
        }

    def _generate_examples(
        self, path: Path, files: cell_tracking.Files, sequence: str
    ) -> Iterator[tuple[int, dict]]:
        return cell_tracking.frames(path, files, sequence)
