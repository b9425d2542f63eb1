"""Folders that are sound: how files are paired, read, mapped and split."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import folder

RNG = np.random.default_rng(2)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def records(splits):
    return {
        record["id"]: record
        for source in splits.sources.values()
        for record in map(source.load, range(source.length))
    }


def check_sound(splits):
    assert not splits.report.issues, splits.report.issues


def test_pixels_and_classes_are_those_of_the_files(home):
    splits = folder(root=str(home))
    check_sound(splits)
    found = records(splits)
    assert sorted(found) == [str(i) for i in range(10)]
    for i, record in found.items():
        image = np.array(Image.open(home / f"images/{i}.png"))
        mask = np.array(Image.open(home / f"masks/{i}.png"))
        np.testing.assert_array_equal(record["image"], image[..., None])
        np.testing.assert_array_equal(record["label"], mask == 255)
    assert splits.report.decisions == (
        "mask values: 0 is background, 255 is foreground",
    )
    for name, source in splits.sources.items():
        mine = [splits.sources[name].load(i)["label"] for i in range(source.length)]
        for k in (0, 1):
            assert source.pixels[k] == sum((label == k).sum() for label in mine)


def test_masks_without_a_background_may_hold_only_class_0(tmp_path):
    """With a background, such a mask has no foreground, which is suspicious."""
    for i in range(8):
        save(tmp_path / f"images/{i}.png", noise(12, 12))
        save(tmp_path / f"masks/{i}.png", noise(12, 12) % 2 if i else noise(12, 12) % 1)
    options = {"root": str(tmp_path), "classes": ("road", "car")}
    splits = folder(background=False, **options)
    check_sound(splits)
    assert not any(source.background for source in splits.sources.values())
    splits = folder(**options)
    (issue,) = splits.report.issues
    assert issue.text == "masks/0.png: no foreground pixels"
    assert all(source.background for source in splits.sources.values())


def test_colours_for_pictures_do_not_make_plain_masks_unclear(home):
    colours = ((0, 0, 0), (255, 255, 255))
    splits = folder(root=str(home), classes=("background", "cell"), colours=colours)
    check_sound(splits)
    assert splits.train.colours == colours


def test_shares_and_folds_cover_all_images_once(home):
    splits = folder(root=str(home), val=0.2, test=0.3)
    assert [source.length for source in splits.sources.values()] == [5, 2, 3]
    tested = []
    for fold in range(5):
        parts = folder(root=str(home), folds=5, fold=fold).notes["split.json"]
        assert sorted(sum(parts.values(), [])) == [str(i) for i in range(10)]
        assert list(map(len, parts.values())) == [6, 2, 2]
        assert parts["val"] == next_test(home, fold)
        tested += parts["test"]
    assert sorted(tested) == [str(i) for i in range(10)]


def next_test(home, fold):
    after = folder(root=str(home), folds=5, fold=(fold + 1) % 5)
    return after.notes["split.json"]["test"]


def test_a_split_is_used_again_and_does_not_take_what_is_new(home, tmp_path):
    first = folder(root=str(home))
    file = tmp_path / "split.json"
    file.write_text(json.dumps(first.notes["split.json"]))
    save(home / "images/new.png", noise(24, 20))
    save(home / "masks/new.png", np.zeros((24, 20), np.uint8))
    again = folder(root=str(home), split=str(file), seed=5)
    assert again.notes["split.json"] == first.notes["split.json"]
    assert "new: not in" in again.report.issues[0].text
    (home / "images/3.png").unlink()
    (home / "masks/3.png").unlink()
    gone = folder(root=str(home), split=str(file)).report.errors
    assert "names 3, missing in the data" in gone[0].text


def test_given_splits_stay_and_what_is_missing_is_taken_from_training(home):
    for part, of in (("train", range(7)), ("test", range(7, 10))):
        for kind in ("images", "masks"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                (home / f"{kind}/{i}.png").rename(home / part / kind / f"{i}.png")
    for kind in ("images", "masks"):
        (home / kind).rmdir()
    splits = folder(root=str(home))
    parts = splits.notes["split.json"]
    assert parts["test"] == ["test/7", "test/8", "test/9"]
    assert len(parts["val"]) == 1
    assert {i.split("/")[0] for i in parts["val"] + parts["train"]} == {"train"}
    taken = parts["val"][0].removeprefix("train/")
    text = f"there is no val/ folder: 1 of the 7 images of train/ ({taken}) is the val "
    assert taken_from_training(splits) == [text + "split"]
    file = home / "split.json"
    file.write_text(json.dumps(parts))
    again = folder(root=str(home), split=str(file))
    assert taken_from_training(again) == [text + "split"]


def taken_from_training(splits):
    assert splits.notes["data.json"]["decisions"] == splits.report.decisions
    return [d for d in splits.report.decisions if d.startswith("there is no ")]


def test_splits_without_folders_are_named_if_they_come_from_training(home):
    assert taken_from_training(folder(root=str(home))) == []
    (home / "train").mkdir()
    for kind in ("images", "masks"):
        (home / kind).rename(home / "train" / kind)
    splits = folder(root=str(home), val=0.2, test=0.4)
    val, test = taken_from_training(splits)
    ids = [i.removeprefix("train/") for i in splits.notes["split.json"]["test"]]
    assert val.startswith("there is no val/ folder: 2 of the 10 images of train/ (")
    assert test == (
        "there is no test/ folder: 4 of the 10 images of train/ "
        f"({', '.join(ids[:3])} and 1 more) are the test split"
    )


def test_files_of_one_group_and_copies_stay_together(home):
    for i in range(12):
        save(home / f"images/case{i // 3}_{i}.png", noise(24, 20))
        save(home / f"masks/case{i // 3}_{i}.png", noise(24, 20) // 128)
    for i in range(10):
        (home / f"images/{i}.png").unlink()
        (home / f"masks/{i}.png").unlink()
    noisy = np.array(Image.open(home / "images/case0_0.png")).astype(float)
    noisy = np.clip(0.9 * noisy + RNG.normal(0, 2, noisy.shape), 0, 255)
    save(home / "images/case3_9.png", noisy.astype(np.uint8))  # nearly the same image
    for seed in range(5):
        splits = folder(root=str(home), group="case([0-9]+)", seed=seed, test=0.2)
        parts = {i: part for part, of in splits.notes["split.json"].items() for i in of}
        for case in range(4):
            assert len({p for i, p in parts.items() if i[4] == str(case)}) == 1
        assert parts["case0_0"] == parts["case3_9"]


def test_wildcards_pair_files_whose_names_differ(tmp_path):
    for i in range(4):
        save(tmp_path / f"raw/p{i}/scan_{i}.png", noise(8, 8))
        save(tmp_path / f"drawn/p{i}/scan_{i}_mask.png", noise(8, 8) // 128)
    globs = {"images": "raw/*/*.png", "masks": "drawn/*/*_mask.png"}
    splits = folder(root=str(tmp_path), **globs)
    check_sound(splits)
    assert sorted(records(splits)) == [f"p{i}/scan_{i}" for i in range(4)]
    absolute = {kind: str(tmp_path / pattern) for kind, pattern in globs.items()}
    assert sorted(records(folder(**absolute))) == [f"p{i}/scan_{i}" for i in range(4)]


def test_pages_of_a_stack_are_images_and_slices_of_a_volume_are_not(tmp_path):
    volume, labels = noise(9, 16, 12), noise(9, 16, 12) // 128
    for name, stack in (("train-volume", volume), ("train-labels", labels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
    files = {"images": "train-volume.tif", "masks": "train-labels.tif"}
    splits = folder(root=str(tmp_path), **files, val=0.2, test=0.2)
    found = records(splits)
    for i in range(9):
        record = found[f"train-volume/{i:03d}"]
        np.testing.assert_array_equal(record["image"][..., 0], volume[i])
        np.testing.assert_array_equal(record["label"], labels[i])
    parts = splits.notes["split.json"]
    assert [i[-1] for i in parts["train"] + parts["val"] + parts["test"]] == list(
        "012345678"
    )
    assert "consecutive pages, which may be alike" in splits.report.issues[0].text
    whole = folder(root=str(tmp_path), **files, axes=3).report
    assert [record.shape for record in whole.records] == [(9, 16, 12)]
    assert "1 images cannot be split" in whole.errors[0].text


def test_colours_palettes_ids_and_ignored_pixels(home):
    def rewrite(change):
        for i in range(10):
            path = home / f"masks/{i}.png"
            change(np.array(Image.open(path).convert("L"))).save(path)

    def palette(mask):
        image = Image.fromarray((mask > 0).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 128, 0, 0])  # as Pascal VOC has it
        return image

    truth = {i: np.array(Image.open(home / f"masks/{i}.png")) > 0 for i in range(10)}

    def check(splits, ignored=False):
        assert not splits.report.errors, splits.report.errors
        for i, record in records(splits).items():
            wanted = truth[int(i)].astype(int)
            if ignored:
                wanted[0] = -1
            np.testing.assert_array_equal(record["label"], wanted)

    rewrite(palette)
    check(folder(root=str(home)))

    def coloured(mask):
        green = np.stack([0 * mask, mask, 0 * mask], axis=-1)
        green[0] = (10, 20, 30)
        return Image.fromarray(green)

    rewrite(lambda mask: Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)))
    rewrite(coloured)
    names = ("background", "cell")
    pairs = (((0, 0, 0), "background"), ((0, 255, 0), "cell"), ((10, 20, 30), -1))
    check(folder(root=str(home), classes=names, label_map=pairs), ignored=True)

    rewrite(lambda mask: Image.fromarray(np.where(mask > 50, 1, 0).astype(np.uint8)))
    for i in range(10):
        mask = np.array(Image.open(home / f"masks/{i}.png"))
        mask[0] = 255
        save(home / f"masks/{i}.png", mask)
    splits = folder(root=str(home), classes=("a", "b"), ignore_label=255)
    assert splits.train.classes == ("a", "b")
    check(splits, ignored=True)


def test_instances_beside_masks_and_alone(home):
    for i in range(10):
        ids = np.zeros((24, 20), np.uint16)
        ids[2:5, 2:5], ids[5:9, 2:5] = 7, 300
        save(home / f"instances/{i}.png", ids)
    splits = folder(root=str(home))
    check_sound(splits)
    record = splits.train.load(0)
    assert set(np.unique(record["instances"])) == {0, 7, 300}
    assert record["label"].sum() != 21  # the masks are something else
    assert {record.objects for record in splits.report.records} == {2}
    alone = folder(root=str(home), masks="")
    check_sound(alone)
    assert alone.train.load(0)["label"].sum() == 21
    count = alone.train.length
    assert alone.train.pixels == {0: count * (24 * 20 - 21), 1: count * 21}


def test_overlapping_classes_in_channels_or_in_folders(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("folders")
    truth = {}
    for i in range(10):
        truth[i] = two = noise(2, 24, 20) // 128
        tifffile.imwrite(home / f"masks/{i}.tif", two * 255, metadata={"axes": "CYX"})
        (home / f"masks/{i}.png").unlink()
        for k, name in enumerate(("axon", "vessel")):
            save(other / f"masks/{name}/{i}.png", two[k] * 255)
        image = np.array(Image.open(home / f"images/{i}.png"))
        save(other / f"images/{i}.png", image)
    channels = folder(root=str(home), multilabel=True, classes=("none", "a", "b"))
    folders = folder(root=str(other))
    assert folders.train.classes == ("background", "axon", "vessel")
    for splits in (channels, folders):
        check_sound(splits)
        for i, record in records(splits).items():
            wanted = np.moveaxis(truth[int(i)], 0, -1)
            np.testing.assert_array_equal(record["label"], wanted)
        total = {k + 1: sum(int(t[k].sum()) for t in truth.values()) for k in (0, 1)}
        pixels = [source.pixels for source in splits.sources.values()]
        assert {k: sum(p[k] for p in pixels) for k in (1, 2)} == total


def test_grey_and_colour_files_are_brought_to_one_count(home):
    coloured = noise(24, 20, 3)
    save(home / "images/3.png", coloured)
    same = np.array(Image.open(home / "images/4.png"))
    save(home / "images/4.png", np.repeat(same[..., None], 3, -1))
    splits = folder(root=str(home))
    assert splits.train.channels == 3
    assert splits.train.convert
    (warning,) = splits.report.issues
    assert warning.text == (
        "8 of 10 images are grey and become RGB, because 1 (images/3.png) is in "
        "colour; --config.data.channels=1 makes all of them grey"
    )
    found = records(splits)
    np.testing.assert_array_equal(found["3"]["image"], coloured)
    np.testing.assert_array_equal(found["4"]["image"][..., 1], same)
    grey = folder(root=str(home), channels=1)
    luma = np.rint(coloured @ [0.299, 0.587, 0.114])
    np.testing.assert_array_equal(records(grey)["3"]["image"][..., 0], luma)
    (warning,) = grey.report.issues
    assert warning.text == (
        "2 of 10 images (images/3.png and 1 more) are RGB and become grey, as "
        "--config.data.channels=1 asks for"
    )
    (home / "images/3.png").unlink()
    (home / "masks/3.png").unlink()
    splits = folder(root=str(home))
    assert splits.train.channels == 1
    (warning,) = splits.report.issues
    assert warning.text == (
        "1 of 9 images (images/4.png) is RGB and becomes grey, because every pixel of "
        "it is grey; --config.data.channels=3 makes all of them RGB"
    )


def test_volumes_keep_their_spacing(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for i in range(4):
        for kind, array in (
            ("images", noise(5, 6, 7)),
            ("masks", noise(5, 6, 7) // 86),
        ):
            (tmp_path / kind).mkdir(exist_ok=True)
            file = nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
            nibabel.save(file, tmp_path / kind / f"v{i}.nii.gz")
    splits = folder(root=str(tmp_path), axes=3)
    check_sound(splits)
    record = splits.train.load(0)
    assert record["image"].shape == (7, 6, 5, 1)
    assert record["spacing"] == (3.0, 2.0, 1.0)
    assert splits.train.classes == ("background", "class 1", "class 2")


def test_an_ome_zarr_is_one_image(tmp_path):
    import tensorstore

    truth = noise(4, 12, 10)
    for i in range(4):
        group = tmp_path / f"images/{i}.ome.zarr"
        axes = [{"name": name, "type": "space"} for name in "yx"]
        scale = [{"type": "scale", "scale": [0.5, 0.25]}]
        level = {"path": "0", "coordinateTransformations": scale}
        store = tensorstore.open(
            {"driver": "zarr", "kvstore": {"driver": "file", "path": str(group / "0")}},
            create=True,
            dtype="uint8",
            shape=(12, 10),
        ).result()
        store.write(truth[i]).result()
        scales = {
            "multiscales": [{"version": "0.4", "axes": axes, "datasets": [level]}]
        }
        (group / ".zattrs").write_text(json.dumps(scales))
        save(tmp_path / f"masks/{i}.png", truth[i] // 128)
    splits = folder(root=str(tmp_path))
    check_sound(splits)
    for i, record in records(splits).items():
        np.testing.assert_array_equal(record["image"][..., 0], truth[int(i)])
        assert record["spacing"] == (0.5, 0.25)


def test_records_are_kept_until_a_file_changes(home, tmp_path, monkeypatch):
    from unet_jax.data.folders import reading, survey

    files, kept = {"root": str(home)}, {"records": str(tmp_path / "kept")}
    first, _ = folder(**files), folder(**files, **kept)
    opened, whole = [], reading.open_pair
    for module in (reading, survey):
        monkeypatch.setattr(
            module, "open_pair", lambda *a: opened.append(a) or whole(*a)
        )
    again = folder(**files, **kept, seed=1)
    assert again.report.issues == first.report.issues
    assert again.report.label_map == first.report.label_map
    there, here = records(first), records(again)
    assert there.keys() == here.keys()
    for name, record in there.items():
        for key, value in record.items():
            np.testing.assert_array_equal(here[name][key], value)
    assert len(opened) == 10  # by `first`, and not again
    save(home / "images/3.png", noise(24, 20))
    changed = records(folder(**files, **kept))
    assert (changed["3"]["image"] != there["3"]["image"]).any()


def test_a_mask_that_is_mirrored_in_the_world_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affines = {"images": np.diag([1.0, 1.0, 1.0, 1.0]), "masks": np.eye(4)}
    for i in range(4):
        affines["masks"][0, 0] = -1 if i == 2 else 1
        affines["masks"][1, 3] = 5 if i == 3 else 0
        for kind, affine in affines.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            array = noise(5, 6, 7) // (1 if kind == "images" else 128)
            file = nibabel.Nifti1Image(array, affine)
            nibabel.save(file, tmp_path / kind / f"v{i}.nii.gz")
    report = folder(root=str(tmp_path), axes=3).report
    (error,) = report.errors
    assert error.text.startswith("masks/v2.nii.gz: its axes point to LAS, those of its")
    (warning,) = [f for f in report.issues if f.kind == "place"]
    assert warning.text.startswith("masks/v3.nii.gz: its affine map differs from that")


def test_a_stack_that_was_written_page_by_page_is_a_stack(tmp_path):
    pages = {
        kind: noise(6, 16, 12) // (1 if kind == "images" else 128)
        for kind in ("images", "masks")
    }
    for kind, stack in pages.items():
        (tmp_path / kind).mkdir()
        with tifffile.TiffWriter(tmp_path / kind / "a.tif") as file:
            for page in stack:
                file.write(page, compression="zlib")
    found = records(folder(root=str(tmp_path)))
    assert len(found) == 6
    for i in range(6):
        np.testing.assert_array_equal(found[f"a/{i:03d}"]["label"], pages["masks"][i])


def test_records_of_one_split_are_not_those_of_another(home, tmp_path):
    kept = {"root": str(home), "records": str(tmp_path / "kept")}
    part = {"train": ["3", "4", "5", "6"], "val": ["8"], "test": ["9"]}
    (tmp_path / "s.json").write_text(json.dumps(part))
    for options in ({}, {"split": str(tmp_path / "s.json")}, {}):
        splits = folder(**kept, **options)
        for i, record in records(splits).items():
            image = np.array(Image.open(home / f"images/{i}.png"))
            np.testing.assert_array_equal(record["image"][..., 0], image)
    assert folder(**kept, split=str(tmp_path / "s.json")).notes["split.json"] == part


def test_a_camera_that_stands_still_does_not_make_one_group_of_all(tmp_path):
    ground = np.kron(noise(16, 16), np.ones((8, 8)))
    for i in range(20):
        image = ground + RNG.normal(0, 4, ground.shape)
        mask = np.zeros(ground.shape, np.uint8)
        mask[i : i + 5, 3 * i : 3 * i + 5] = 255
        image[mask > 0] = 250
        save(tmp_path / f"images/v{i // 5}_{i}.png", image.clip(0, 255).astype("u1"))
        save(tmp_path / f"masks/v{i // 5}_{i}.png", mask)
    for options in ({"group": "v([0-9])"}, {"group": "v([0-9])", "folds": 4}):
        report = folder(root=str(tmp_path), **options).report
        assert not report.errors, report.errors
        where = {(record.id[1], record.split) for record in report.records}
        assert len(where) == 4  # every video in one split
    assert "nearly the same image" in report.issues[-1].text


@pytest.mark.parametrize("kind", ["images", "masks", "unlabelled"])
def test_a_folder_that_leads_out_of_the_root_needs_leave(home, tmp_path_factory, kind):
    outside = tmp_path_factory.mktemp("outside")
    (home / "inside").mkdir()
    if kind == "unlabelled":
        save(outside / f"{kind}/a.png", noise(24, 20))
    else:
        (home / kind).rename(outside / kind)
    (home / kind).symlink_to(outside / kind)
    (error,) = folder(root=str(home)).report.errors
    assert error.kind == "link"
    allowed = folder(root=str(home), links=True)
    check_sound(allowed)
    assert len(records(allowed)) == 10
    named = {kind: str(outside / kind)}  # a place that is named needs no leave
    check_sound(folder(root=str(home), **named))
    if kind != "unlabelled":
        (home / kind).unlink()
        (outside / kind).rename(home / "inside" / kind)
        (home / kind).symlink_to(home / "inside" / kind)
        check_sound(folder(root=str(home)))
