import functools
import gzip
import hashlib
import http.server
import struct
import tarfile
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.data import archives
from unet_jax.data.datasets import archives as module
from unet_jax.data.datasets.archives import Archive, find_archive, read_members
from unet_jax.errors import UserError

ZIP = Archive("set.zip", "http://127.0.0.1:9/set.zip", contents=("a/*.txt",))
TAR = ZIP._replace(file="set.tar.gz", url="http://127.0.0.1:9/set.tar.gz")
MEMBERS = {"a/1.txt": b"one", "a/2.txt": b"two" * 999, "b/3.txt": b""}


def read(given, path, wanted=lambda name: True):
    return dict(read_members(given, path, wanted))


def refused(given, path):
    with pytest.raises(UserError) as caught:
        read(given, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def zipped(tmp_path, members=MEMBERS):
    return archives.pack_zip(tmp_path / "set.zip", members)


def test_the_same_members_from_every_form(tmp_path):
    archives.unpack(tmp_path / "set", MEMBERS)
    assert read(ZIP, tmp_path / "set") == MEMBERS
    assert read(ZIP, zipped(tmp_path)) == MEMBERS
    for mode in ("w", "w:gz"):
        assert read(TAR, archives.pack_tar(tmp_path / "t", MEMBERS, mode)) == MEMBERS
    chosen = read(ZIP, zipped(tmp_path), lambda name: name.startswith("b"))
    assert chosen == {"b/3.txt": b""}


def test_files_of_systems_are_left_out(tmp_path):
    junk = {"__MACOSX/a/._1.txt": b"x", "a/.DS_Store": b"x", "a/Thumbs.db": b"x"}
    archives.unpack(tmp_path / "set", MEMBERS | junk)
    assert read(ZIP, tmp_path / "set") == MEMBERS
    assert read(ZIP, zipped(tmp_path, MEMBERS | junk)) == MEMBERS
    dotted = {f"./{name}": content for name, content in MEMBERS.items()}
    tar = archives.pack_tar(tmp_path / "t", dotted | junk, "w:gz")
    assert read(TAR, tar).keys() == dotted.keys()


def test_an_entry_outside_is_only_a_name(tmp_path):
    """Nothing is extracted."""
    members = {"../1.txt": b"evil", "/etc/1.txt": b"evil"}
    (tmp_path / "in").mkdir()
    path = archives.pack_zip(tmp_path / "in" / "set.zip", members)
    assert read(ZIP, path) == members
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "set.zip"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_a_link_or_device_in_a_tar_is_not_read(kind, tmp_path):
    with tarfile.open(tmp_path / "t", "w") as file:
        entry = tarfile.TarInfo("a/1.txt")
        entry.type, entry.linkname = kind, "/etc/passwd"
        file.addfile(entry)
    assert read(TAR, tmp_path / "t") == {}


def test_a_link_out_of_an_extracted_folder_is_refused(tmp_path):
    archives.unpack(tmp_path, {"secret.txt": b"", "set/a/1.txt": b"", "set/b.txt": b""})
    (tmp_path / "set/a/inside.txt").symlink_to(tmp_path / "set/b.txt")
    assert len(read(ZIP, tmp_path / "set")) == 3
    (tmp_path / "set/a/2.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UserError, match="set/a/2.txt is a link that leaves"):
        read(ZIP, tmp_path / "set")


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_MEMBER", 2**20)
    monkeypatch.setattr(module, "LARGEST_ARCHIVE", 2**21)
    large = {"a/1.txt": bytes(2**20 + 1)}
    many = {f"a/{i}.txt": bytes(2**20) for i in range(3)}
    bomb = zipped(tmp_path, large)
    assert "a/1.txt has 1048577 bytes" in refused(ZIP, bomb)
    assert "inflates to 3145728 bytes" in refused(ZIP, zipped(tmp_path, many))
    tar = tmp_path / "t"
    assert "1048577 bytes" in refused(TAR, archives.pack_tar(tar, large))
    assert "inflates to" in refused(TAR, archives.pack_tar(tar, many))
    content = zipped(tmp_path, large).read_bytes()
    honest, lie = struct.pack("<I", 2**20 + 1), struct.pack("<I", 9)
    assert content.count(honest) == 2
    bomb.write_bytes(content.replace(honest, lie))
    tracemalloc.start()
    assert "not a complete zip" in refused(ZIP, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_tar_cannot_go_back_or_ask_for_gigabytes(tmp_path):
    def header(name, size, kind=tarfile.REGTYPE):
        entry = tarfile.TarInfo(name)
        entry.size, entry.type = size, kind
        return entry.tobuf(tarfile.GNU_FORMAT)

    first = header("a/1.txt", 512) + bytes(512)
    for second in (
        header("a/2.txt", -1024),
        header("a/2.txt", 2**40),
        header("a/2.txt", 2**40, tarfile.GNUTYPE_LONGNAME),
        header("a/2.txt", -1024, tarfile.XHDTYPE),
    ):
        (tmp_path / "t").write_bytes(first + second + bytes(1024))
        refused(TAR, tmp_path / "t")


def test_an_entry_that_is_encrypted_or_not_deflated_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a/1.txt", "one")
    assert "a/1.txt is not compressed by" in refused(ZIP, tmp_path / "set.zip")
    content = bytearray(zipped(tmp_path).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "set.zip").write_bytes(content)
    assert "encrypted" in refused(ZIP, tmp_path / "set.zip")


@pytest.mark.parametrize("given", [ZIP, TAR])
def test_what_is_cut_short_or_foreign_is_refused(given, tmp_path):
    pack = archives.pack_zip if given is ZIP else archives.pack_tar
    path = pack(tmp_path / given.file, MEMBERS)
    content = path.read_bytes()
    for broken in (content[:-20], content[:40], b"", b"<html>not found</html>" * 99):
        path.write_bytes(broken)
        message = refused(given, path)
        assert "not a complete" in message
        assert given.url in message


def mutated(content, rng):
    """One to four bytes changed, a piece cut, doubled, or the end lost."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place, length = rng.integers(len(content)), int(rng.integers(1, 40))
        piece = content[place : place + length]
        match rng.integers(6):
            case 0:
                content[place : place + length] = b""
            case 1:
                content[place:place] = piece
            case 2:
                content[place : place + 4] = rng.bytes(4)
            case 3:
                content = content[: max(place, 1)]
            case _:
                content[place] = rng.choice([0, 1, 127, 128, 255, content[place] ^ 1])
        content = content or bytearray(b"P")
    return bytes(content)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "gz of a bad tar"])
def test_hundreds_of_broken_archives_are_read_or_refused(form, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_MEMBER", 2**20)
    monkeypatch.setattr(module, "LARGEST_ARCHIVE", 2**20)
    rng = np.random.default_rng(0)
    members = MEMBERS | {"a/" + "long" * 50: bytes(3000), "a/ü.txt": rng.bytes(600)}
    path = tmp_path / "set"
    given = ZIP if form == "zip" else TAR
    if form == "zip":
        archives.pack_zip(path, members)
    else:
        archives.pack_tar(path, members, "w:gz" if form == "tar.gz" else "w")
    whole, sizes, refusals = path.read_bytes(), [], []
    start = time.monotonic()
    tracemalloc.start()
    for _ in range(300):
        broken = mutated(whole, rng)
        path.write_bytes(gzip.compress(broken, 1) if form[:2] == "gz" else broken)
        try:
            sizes.append(sum(map(len, read(given, path).values())))
        except UserError as error:
            refusals.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(refusals) > 30
    assert not any("\n" in message for message in refusals)
    assert max(sizes, default=0) <= 2**20
    assert peak < 2**24
    assert time.monotonic() - start < 60


@pytest.fixture
def site(tmp_path):
    """The address of a local server, its folder, and the requests that it had."""
    asked, folder = [], tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()


def test_an_archive_is_downloaded_once(site, tmp_path, capfd):
    address, folder, asked = site
    content = archives.pack_zip(folder / "set.zip", MEMBERS).read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    for sha256 in ("", checksum):
        given = ZIP._replace(url=f"{address}/set.zip", sha256=sha256)
        path = find_archive(given, None, tmp_path / "downloads")
        assert path == tmp_path / "downloads" / "set.zip"
        assert path.read_bytes() == content
    assert asked == ["/set.zip"]
    assert capfd.readouterr() == ("", "")


def test_a_download_with_another_checksum_is_refused_and_removed(site, tmp_path):
    address, folder, _ = site
    archives.pack_zip(folder / "set.zip", MEMBERS)
    given = ZIP._replace(url=f"{address}/set.zip", sha256="0" * 64)
    with pytest.raises(UserError, match="no set.zip in manual_dir .*hash") as caught:
        find_archive(given, None, tmp_path / "downloads")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "downloads").iterdir())


def test_the_manual_folder_comes_first(site, tmp_path):
    address, _, asked = site
    manual = tmp_path / "manual"
    manual.mkdir()
    given = ZIP._replace(url=f"{address}/set.zip")
    with pytest.raises(UserError, match=f"no set.zip in {manual} and .*404"):
        find_archive(given, manual, tmp_path / "downloads")
    asked.clear()
    path = archives.pack_zip(manual / "set.zip", MEMBERS)
    assert find_archive(given, manual, tmp_path / "downloads") == path
    path.unlink()
    archives.unpack(manual / "set", MEMBERS)
    assert find_archive(given, manual, tmp_path / "downloads") == manual / "set"
    assert not asked


def test_without_a_network_the_error_comes_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match=r"from http://127.0.0.1:9/set.zip \(no conn"):
        find_archive(ZIP, None, tmp_path)
    assert time.monotonic() - start < 5
