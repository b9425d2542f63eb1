import numpy as np
import pytest

from tests.data import archives
from unet_jax import data
from unet_jax.errors import UserError
from unet_jax.specs import bind

ZIP = "stage1_train.zip"
KINDS = {"grey_48x40": 5, "grey_56x56": 5, "grey_44x60": 5, "colour_40x44": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = tmp_path_factory.mktemp("nuclei")
    archives.pack_zip(place / ZIP, archives.nuclei())
    return {"manual_dir": str(place), "data_dir": str(place / "prepared")}


def loaded(splits):
    return {
        name: [source.load(i) for i in range(source.length)]
        for name, source in splits.sources.items()
    }


def kind(record):
    colour = np.ptp(record["image"], -1).any()
    height, width = record["label"].shape
    return f"{'colour' if colour else 'grey'}_{height}x{width}"


def test_a_kind_of_image_is_in_one_split(tiny):
    for seed in range(4):
        records = loaded(data.dsb2018(seed=seed, **tiny))
        kinds = [{kind(r) for r in part} for part in records.values()]
        assert sorted(set.union(*kinds)) == sorted(KINDS)
        assert sum(map(len, kinds)) == len(KINDS)
        assert all(kinds)
        ids = [r["id"] for part in records.values() for r in part]
        assert sorted(ids) == [f"{i:02x}ab" for i in range(17)]


def test_divided_images_have_every_kind_and_none_twice(tiny):
    splits = data.dsb2018(grouped=False, val=0.2, test=0.4, **tiny)
    records = loaded(splits)
    counts = {
        name: {k: sum(kind(r) == k for r in part) for k in KINDS}
        for name, part in records.items()
    }
    for k, size in KINDS.items():
        assert counts["test"][k] == (2 if size == 5 else 1)
        assert counts["val"][k] == (1 if size == 5 else 0)
    ids = [r["id"] for part in records.values() for r in part]
    assert sorted(ids) == [f"{i:02x}ab" for i in range(17)]
    again = loaded(data.dsb2018(grouped=False, val=0.2, test=0.4, **tiny))
    other = loaded(data.dsb2018(grouped=False, val=0.2, test=0.4, seed=1, **tiny))
    tested = [[r["id"] for r in part["test"]] for part in (records, again, other)]
    assert tested[0] == tested[1] != tested[2]


def test_an_overlap_belongs_to_the_first_file_by_name(tiny):
    record = data.dsb2018(**tiny).train.load(0)
    ids = record["instances"]
    # The file y... is drawn at 8, z... at 4; y comes first.
    assert (ids[8:16, 8:16] == 1).all()
    assert (ids[4:12, 4:12] == 2).sum() == 64 - 16
    assert set(np.unique(ids)) == {0, 1, 2}
    np.testing.assert_array_equal(record["label"], ids > 0)


def test_channels_are_repeated_or_made_one(tiny):
    three = loaded(data.dsb2018(grouped=False, **tiny))["train"]
    one = loaded(data.dsb2018(grouped=False, channels=1, **tiny))["train"]
    for rgb, grey in zip(three, one, strict=True):
        assert rgb["image"].shape == (*rgb["label"].shape, 3)
        assert rgb["image"].dtype == grey["image"].dtype == np.uint8
        luma = np.rint(rgb["image"] @ np.array([0.299, 0.587, 0.114]))
        np.testing.assert_array_equal(grey["image"][..., 0], luma)
    assert {kind(r)[:4] for r in three} == {"grey", "colo"}


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"val": 0.0}, "config.data.val must be a number above 0 and below 1"),
        ({"val": 0.5, "test": 0.5}, "val . test must be below 1, not 1.0"),
        ({"grouped": False, "val": 0.01}, "none for val"),
        ({"channels": 2}, "config.data.channels must be 1 or 3"),
    ],
)
def test_options_out_of_range(option, line, tiny):
    with pytest.raises(UserError, match=line):
        bind(data, {"name": "dsb2018", **tiny, **option}, "config.data")()


def test_two_kinds_cannot_be_kept_together(tmp_path):
    archives.pack_zip(tmp_path / ZIP, archives.nuclei(shapes=((48, 40),)))
    place = {"manual_dir": str(tmp_path), "data_dir": str(tmp_path / "out")}
    with pytest.raises(UserError, match="2 kinds .* grouped=False"):
        data.dsb2018(**place)
    assert data.dsb2018(grouped=False, val=0.2, **place).train.length == 4


def without_masks(members):
    return {k: v for k, v in members.items() if "01ab/masks" not in k}


def between(members):
    grey = archives.picture(np.full((48, 40), 128, np.uint8))
    return members | {"01ab/masks/z1.png": grey}


def smaller(members):
    return members | {"01ab/masks/z1.png": archives.picture(np.zeros((48, 39), "u1"))}


def broken(members):
    return members | {"01ab/images/01ab.png": members["01ab/images/01ab.png"][:60]}


def foreign(members):
    return {"cats/1.jpg": b"cat"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_masks, ["01ab", "0 masks"]),
        (between, ["01ab/masks/z1.png", "0 and 255", "from 128 to 128"]),
        (smaller, ["01ab/masks/z1.png", "(48, 40)", "(48, 39)"]),
        (broken, ["01ab", "is cut off"]),
        (foreign, ["cats/1.jpg", "https://"]),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(spoil, words, tmp_path):
    archives.pack_zip(tmp_path / ZIP, spoil(archives.nuclei()))
    with pytest.raises(UserError) as caught:
        data.dsb2018(manual_dir=str(tmp_path), data_dir=str(tmp_path / "out"))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in [ZIP, *words] if word not in message] == []
    assert not any(f.is_file() for f in (tmp_path / "out").rglob("*"))


def test_the_extracted_folder_will_do(tmp_path):
    archives.unpack(tmp_path / "stage1_train", archives.nuclei())
    for i, where in enumerate((tmp_path, tmp_path / "stage1_train")):
        out = str(tmp_path / f"out{i}")
        splits = data.dsb2018(manual_dir=str(where), data_dir=out)
        assert sum(source.length for source in splits.sources.values()) == 17
