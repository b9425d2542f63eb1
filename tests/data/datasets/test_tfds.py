import json
import shutil
import sys

import numpy as np
import pytest

from tests.data import archives
from unet_jax import data
from unet_jax.data import files
from unet_jax.errors import UserError
from unet_jax.specs import bind

PETS = {
    "dataset": "oxford_iiit_pet",
    "id": "file_name",
    "classes": ("background", "pet", "border"),
    "label_map": ((1, 1), (2, 0), (3, 2)),
}


def write_pets(folder, photographs, annotations):
    folder.mkdir(exist_ok=True)
    archives.pack_tar(folder / "images.tar.gz", photographs, "w:gz")
    archives.pack_tar(folder / "annotations.tar.gz", annotations, "w")
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = tmp_path_factory.mktemp("pets")
    manual = write_pets(place / "manual", *archives.pets())
    return {"manual_dir": manual, "data_dir": str(place / "prepared")}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder of data sets that another program prepared with TFDS."""
    import tensorflow_datasets as tfds

    class Scans(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small", version="2.0.0")]

        def _info(self):
            features = {
                "scan": tfds.features.Tensor(
                    shape=(None, None, None, 1), dtype=np.uint16, encoding="zlib"
                ),
                "organs": tfds.features.Tensor(
                    shape=(None, None, None, 1), dtype=np.uint8, encoding="zlib"
                ),
                "title": tfds.features.Text(),
                "grey": tfds.features.Image(shape=(None, None, 1)),
                "named": tfds.features.LabeledImage(
                    labels=["nothing", "liver"], shape=(None, None, 1)
                ),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(10):
                volume = np.full((3, 4, 5, 1), 300 + i, np.uint16)
                organs = np.zeros((3, 4, 5, 1), np.uint8)
                organs[0], organs[1] = 40, 7
                grey = archives.picture(np.full((4, 5), i, np.uint8))
                named = archives.picture(np.eye(4, 5, dtype=np.uint8))
                images = {"grey": grey, "named": named, "title": f"scan {i}"}
                yield i, {"scan": volume, "organs": organs} | images

    folder = tmp_path_factory.mktemp("foreign")
    tfds.disable_progress_bar()
    Scans(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


def ids(source):
    return [source.load(i)["id"] for i in range(source.length)]


def test_pets_are_prepared_without_tensorflow(tiny):
    splits = data.tfds(**PETS, val=0.25, **tiny)
    assert [s.length for s in splits.sources.values()] == [7, 2, 3]
    assert sorted(ids(splits.test)) == [f"{b}_0.jpg" for b in archives.BREEDS]
    every = [name for source in splits.sources.values() for name in ids(source)]
    assert len(set(every)) == len(every) == 12
    assert "tensorflow" not in sys.modules


def test_a_pet_has_its_photograph_and_its_trimap(tiny):
    test = data.tfds(**PETS, **tiny).test
    record = next(r for r in map(test.load, range(3)) if r["id"] == "pug_0.jpg")
    photographs, _ = archives.pets()
    assert record["image"].shape == (50, 60, 3)
    assert archives.picture(record["image"]) == archives.picture(
        files.decode_image(photographs["images/pug_0.jpg"], "")
    )
    want = np.zeros((50, 60), np.int32)
    want[10:30, 10:30] = 2
    want[12:28, 12:30] = 1
    np.testing.assert_array_equal(record["label"], want)


def test_validation_follows_the_seed_alone(tiny):
    draws = [ids(data.tfds(**PETS, val=0.3, seed=s, **tiny).val) for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_extracted_folders_will_do(tmp_path, tiny):
    for members in archives.pets():
        archives.unpack(tmp_path, members)
    place = {"manual_dir": str(tmp_path), "data_dir": str(tmp_path / "out")}
    assert ids(data.tfds(**PETS, **place).train) == ids(data.tfds(**PETS, **tiny).train)


def test_a_photograph_that_is_no_jpeg_in_rgb_becomes_a_png(tmp_path):
    photographs, annotations = archives.pets()
    rng = np.random.default_rng(0)
    rgba, grey = rng.integers(0, 255, (2, 50, 60, 4)).astype(np.uint8)
    photographs["images/pug_0.jpg"] = archives.picture(rgba)
    photographs["images/beagle_0.jpg"] = archives.picture(grey[..., 0], "JPEG")
    manual = write_pets(tmp_path / "manual", photographs, annotations)
    test = data.tfds(**PETS, manual_dir=manual, data_dir=str(tmp_path / "out")).test
    images = {r["id"]: r["image"] for r in map(test.load, range(3))}
    np.testing.assert_array_equal(images["pug_0.jpg"], rgba[..., :3])
    assert not np.ptp(images["beagle_0.jpg"], -1).any()


def lacking(photographs, annotations):
    del photographs["images/pug_1.jpg"]


def listed(photographs, annotations):
    del annotations["annotations/trimaps/pug_1.png"]


def unlisted(photographs, annotations):
    del annotations["annotations/test.txt"]


def zero(photographs, annotations):
    trimap = archives.picture(np.zeros((50, 60), np.uint8))
    annotations["annotations/trimaps/pug_1.png"] = trimap


def cut(photographs, annotations):
    whole = photographs["images/pug_1.jpg"]
    photographs["images/pug_1.jpg"] = whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lacking, ["images.tar.gz lacks pug_1.jpg", "https://"]),
        (listed, ["annotations.tar.gz", "trainval.txt", "no trimap: pug_1"]),
        (unlisted, ["annotations.tar.gz", "no test.txt", "https://"]),
        (zero, ["images/pug_1.jpg", "1, 2, 3", "from 0 to 0"]),
        (cut, ["images/pug_1.jpg", "cannot be read"]),
    ],
)
def test_bad_archives_are_refused_and_leave_nothing(spoil, words, tmp_path):
    pets = archives.pets()
    spoil(*pets)
    manual = write_pets(tmp_path / "manual", *pets)
    with pytest.raises(UserError) as caught:
        data.tfds(**PETS, manual_dir=manual, data_dir=str(tmp_path / "out"))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert not any(f.is_file() for f in (tmp_path / "out").rglob("*"))


def test_what_another_program_prepared_is_read(foreign):
    splits = data.tfds(
        dataset="scans/small",
        image="scan",
        mask="organs",
        splits=("train",),
        val=0.2,
        label_map=((0, 0), (40, 1)),
        ignore_label=7,
        classes=("nothing", "liver"),
        data_dir=foreign,
    )
    assert [s.length for s in splits.sources.values()] == [6, 2, 2]
    every = [name for source in splits.sources.values() for name in ids(source)]
    assert sorted(every) == [f"train-{i:05d}" for i in range(10)]
    record = splits.test.load(0)
    assert record["image"].dtype == np.uint16
    assert record["image"].shape == (3, 4, 5, 1)
    assert (record["image"] == 300 + int(record["id"][-5:])).all()
    assert record["label"][:, 0, 0].tolist() == [1, -1, 0]
    assert splits.train.channels == 1


def test_class_names_come_from_the_feature(foreign):
    train = data.tfds(
        dataset="scans/small:2.0.0",
        image="grey",
        mask="named",
        id="title",
        splits=("train",),
        data_dir=foreign,
    ).train
    assert train.load(0)["id"].startswith("scan ")
    assert train.classes == ("nothing", "liver")
    assert len(set(train.colours)) == 2
    np.testing.assert_array_equal(train.load(0)["label"], np.eye(4, 5))


SCANS = {
    "dataset": "scans/small",
    "image": "scan",
    "mask": "organs",
    "splits": ("train",),
    "classes": ("nothing", "liver"),
}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dataset": "../scans"}, "dataset must be name, name/config"),
        ({"dataset": "scans"}, "needs its config, scans/CONFIG; available: small"),
        ({"dataset": "scans/small:1.0.0"}, "is not there, .* only TensorFlow"),
        ({"dataset": "nothing_like_it"}, "nothing_like_it is not there, .*isbi2012"),
        ({"image": "scans"}, "image: .* no feature 'scans'; did you mean 'scan'"),
        ({"image": "title"}, "image: 'title' of scans/small is not an image, but Text"),
        ({"id": "name"}, "id: scans/small has no feature 'name'"),
        ({"splits": ("trian",)}, "splits: .* no 'trian'; did you mean 'train'"),
        ({"splits": ("train", "train")}, "one to three different names"),
        ({"classes": ()}, "does not name its classes"),
        (
            {"label_map": ((1, 2),)},
            "there is no class 2 for the value 1; .* nothing, liv",
        ),
        ({"label_map": ((1,),)}, "label_map must be pairs of a value"),
        ({"label_map": ((1, 0), (1, 1))}, "the value 1 two meanings"),
        ({"label_map": ((7, 1),), "ignore_label": 7}, "the value 7 two meanings"),
        ({"colours": ((0, 0, 0),)}, "colours must have one for each class"),
        ({"colours": ((0, 0, 0),) * 3}, "it has 3 of 2 classes"),
        ({"val": 0.6}, "10 records, too few to take 6 for each of val and test"),
        ({"label_map": (1, 2)}, "label_map must be pairs of a value"),
    ],
)
def test_options_that_do_not_fit(options, line, foreign):
    spec = {"name": "tfds", "data_dir": foreign, **SCANS, **options}
    with pytest.raises(UserError, match=line) as caught:
        bind(data, spec, "config.data")()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "train-0000.: the mask values 7; 40 have no class; .*label_map"),
        ({"label_map": ((0, 0), (7, 1))}, "train-0000.: the mask values 40 have"),
    ],
)
def test_a_value_without_a_class_is_named(options, line, foreign):
    train = data.tfds(data_dir=foreign, **SCANS, **options).train
    with pytest.raises(UserError, match=line):
        train.load(0)


def test_tfrecord_needs_another_program(foreign, tmp_path):
    shutil.copytree(foreign, tmp_path, dirs_exist_ok=True)
    (info,) = tmp_path.rglob("dataset_info.json")
    stored = json.loads(info.read_text())
    stored["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(stored))
    with pytest.raises(
        UserError, match=f"{tmp_path}.*stored as tfrecord.*array_record"
    ):
        data.tfds(data_dir=str(tmp_path), **SCANS)
    stored["fileFormat"] = "array_record"
    (lengths,) = [split["shardLengths"] for split in stored["splits"]]
    lengths[0] = "9"
    info.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="is damaged .*10 records instead of 9"):
        data.tfds(data_dir=str(tmp_path), **SCANS)
    info.write_text("{")
    with pytest.raises(UserError, match=f"{tmp_path}.*is not valid"):
        data.tfds(data_dir=str(tmp_path), **SCANS)
