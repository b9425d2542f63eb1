"""Small archives of the layout that the public ones have."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TRACKED = {"dic_hela": "DIC-C2DH-HeLa", "phc_u373": "PhC-C2DH-U373"}
BREEDS = ("Abyssinian", "beagle", "pug")


def every(folder):
    """One of each public set, for configs that only have to run."""
    for name in TRACKED.values():
        pack_zip(folder / f"{name}.zip", tracked(name))
    pack_zip(folder / "stage1_train.zip", nuclei())
    photographs, annotations = pets()
    pack_tar(folder / "images.tar.gz", photographs, "w:gz")
    pack_tar(folder / "annotations.tar.gz", annotations, "w")


def pack_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pack_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def unpack(folder, members):
    """The same, extracted."""
    for name, content in members.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def tiff(array):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array)
    return stream.getvalue()


def picture(array, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def tracked(name, frames=6, gold=(0, 1, 3, 5), shape=(56, 48)):
    """A Cell Tracking Challenge set: cells 7 and 9; gold draws 9 in even frames only.

    The silver truth of video 02 is missing, and frame 4 of it has no gold truth.
    """
    members = {f"{name}/readme.txt": b"videos"}
    rng = np.random.default_rng(len(name))
    for video in ("01", "02"):
        for t in range(frames):
            cells = np.zeros(shape, np.uint16)
            cells[4:12, 4 + t : 12 + t] = 7
            cells[20:30, 20:30] = 9
            markers = np.zeros(shape, np.uint16)
            markers[7:9, 7 + t : 9 + t] = 7
            markers[24:26, 24:26] = 9
            drawn = np.where((cells == 9) & (t % 2 == 1), 0, cells).astype(np.uint16)
            frame = rng.integers(0, 200, shape).astype(np.uint8)
            frame[cells > 0] += 50
            frame[0, 0] = t
            members[f"{name}/{video}/t{t:03d}.tif"] = tiff(frame)
            track = f"{name}/{video}_GT/TRA/man_track{t:03d}.tif"
            members[track] = tiff(markers)
            if t in gold:
                seg = f"{name}/{video}_GT/SEG/man_seg{t:03d}.tif"
                members[seg] = tiff(drawn)
            if video == "01":
                silver = f"{name}/{video}_ST/SEG/man_seg{t:03d}.tif"
                members[silver] = tiff(np.roll(cells, 1, 0))
    return members


def nuclei(count=5, shapes=((48, 40), (56, 56), (44, 60)), colour=(40, 44)):
    """BBBC038 stage1_train: `count` grey images of each shape, and two of colour."""
    rng = np.random.default_rng(1)
    made = [(shape, False) for shape in shapes for _ in range(count)]
    members = {}
    for i, (shape, coloured) in enumerate([*made, (colour, True), (colour, True)]):
        name = f"{i:02x}ab"
        image = rng.integers(0, 100, (*shape, 1)).astype(np.uint8)
        image = image + np.uint8([0, 20, 40] if coloured else [0, 0, 0])
        alpha = np.full((*shape, 1), 255, np.uint8)
        rgba = np.concatenate([image, alpha], -1)
        members[f"{name}/images/{name}.png"] = picture(rgba)
        for n, corner in enumerate((4, 8)):  # they overlap in 4 x 4 pixels
            mask = np.zeros(shape, np.uint8)
            mask[corner : corner + 8, corner : corner + 8] = 255
            members[f"{name}/masks/{'zy'[n]}{i}.png"] = picture(mask)
    return members


def pets(count=4, shape=(50, 60)):
    """Oxford-IIIT Pet: the members of images.tar.gz and of annotations.tar.gz."""
    rng = np.random.default_rng(2)
    photographs, annotations = {}, {"annotations/README": b"pets"}
    lines = {"trainval": [], "test": []}
    for b, breed in enumerate(BREEDS):
        for i in range(count):
            name = f"{breed}_{i}"
            image = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
            photographs[f"images/{name}.jpg"] = picture(image, "JPEG")
            trimap = np.full(shape, 2, np.uint8)
            trimap[10:30, 10:30] = 3
            trimap[12:28, 12 : 28 + b] = 1
            annotations[f"annotations/trimaps/{name}.png"] = picture(trimap)
            annotations[f"annotations/trimaps/._{name}.png"] = b"Mac"
            lines["test" if i == 0 else "trainval"].append(f"{name} {b + 1} 1 1")
    for split, names in lines.items():
        annotations[f"annotations/{split}.txt"] = "\n".join(names).encode() + b"\n"
    return photographs, annotations
