"""DIC-C2DH-HeLa, from the public archive to records, with no TensorFlow."""

from collections.abc import Iterator

import tensorflow_datasets as tfds

from unet_jax.data.builders import cell_tracking

ARCHIVE = cell_tracking.archive("DIC-C2DH-HeLa")


class Builder(tfds.core.GeneratorBasedBuilder):
    """HeLa cells under differential interference contrast: two videos."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The frames that have gold truth."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{ARCHIVE.file} from {ARCHIVE.url}, or its extracted folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return cell_tracking.info(self)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        return cell_tracking.videos(ARCHIVE, dl_manager)

    _generate_examples = staticmethod(cell_tracking.frames)
