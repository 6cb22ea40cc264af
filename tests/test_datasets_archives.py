"""Archives are read in memory, give what they hold, and cannot do harm."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.datasets.archives import unpack

NAMES = st.text("abc.-_ü文", min_size=1, max_size=6).filter(lambda name: name.strip("."))
FILES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary())
UNSAFE = ["/etc/passwd", "../up", "a/../../up", "..", "C:/x", "a\\..\\b", "\\\\host\\x"]


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def zipped(members):
    """A zip of [(name or ZipInfo, content)] and the bytes that come out of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue(), sum(len(content) for _, content in members)


def tarred(members):
    """A tar.gz of [(name, content)] or [(TarInfo, content)] and the size of the tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue()), len(buffer.getvalue())


@given(files=FILES)
def test_zip_round_trip(files):
    assert unpack("x.zip", *zipped(files.items())) == files


@given(files=FILES)
def test_tar_round_trip(files):
    assert unpack("x.tar.gz", *tarred(files.items())) == files


@given(content=st.binary())
def test_single_files(content):
    assert unpack("x.txt.gz", gzip.compress(content), len(content)) == {"x.txt": content}
    assert unpack("x.txt", content, None) == {"x.txt": content}


def test_folders_are_no_files():
    folder = tarfile.TarInfo("top")
    folder.type = tarfile.DIRTYPE
    assert unpack("x.tar.gz", *tarred([(folder, b""), ("top/a", b"1")])) == {"top/a": b"1"}
    assert unpack("x.zip", *zipped([("top/", b""), ("top/a", b"1")])) == {"top/a": b"1"}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize(("ending", "pack"), [("zip", zipped), ("tar.gz", tarred)])
def test_unsafe_names_are_refused(name, ending, pack):
    with pytest.raises(ValueError, match=r"x\..*unsafe name"):
        unpack(f"x.{ending}", *pack([("good", b"1"), (name, b"2")]))


def test_a_name_with_a_zero_byte_is_refused():
    """zipfile would cut it off there: "aab" would be read as "a"."""
    data, size = zipped([("aab", b"1")])
    with pytest.raises(ValueError, match="unsafe name"):
        unpack("x.zip", data.replace(b"aab", b"a\0b"), size)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tars_are_refused(kind):
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "../../etc/passwd"
    with pytest.raises(ValueError, match="'link' is not a plain file"):
        unpack("x.tar.gz", *tarred([(member, b"")]))


def test_links_in_zips_are_refused():
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    with pytest.raises(ValueError, match="'link' is not a plain file"):
        unpack("x.zip", *zipped([(member, b"/etc/passwd")]))


@pytest.mark.parametrize(("ending", "pack"), [("zip", zipped), ("tar.gz", tarred)])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(ending, pack):
    with pytest.raises(ValueError, match="two members are named 'a'"):
        unpack(f"x.{ending}", *pack([("a", b"1"), ("a", b"2")]))


def test_another_size_is_refused():
    for name, (data, size) in {
        "x.zip": zipped([("a", b"12"), ("b", b"345")]),
        "x.tar.gz": tarred([("a", b"12")]),
        "x.gz": (gzip.compress(b"12345"), 5),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}: more than the expected {size - 1:,} bytes"):
            unpack(name, data, size - 1)
        with pytest.raises(ValueError, match=rf"expected {size + 1:,} .* got {size:,}"):
            unpack(name, data, size + 1)


def test_a_bomb_is_not_unpacked(monkeypatch):
    """10 MB of zeros in 10 kB: given up after the expected size, in one bounded read."""
    import tracemalloc

    zeros = bytes(10_000_000)
    bombs = {
        "x.gz": gzip.compress(zeros),
        "x.tar.gz": tarred([("zeros", zeros)])[0],
        "x.zip": zipped([("zeros", zeros)])[0],
    }
    for name, data in bombs.items():
        assert len(data) < 15_000
        tracemalloc.start()
        with pytest.raises(ValueError, match="more than the expected 1,000 bytes"):
            unpack(name, data, 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000, name


def test_a_zip_that_declares_too_little_gives_no_more():
    """Its headers say 10 bytes, its data would be 100,000."""
    data, size = zipped([("zeros", bytes(100_000))])
    lying = data.replace(struct.pack("<L", size), struct.pack("<L", 10))
    assert lying.count(struct.pack("<L", 10)) >= 2
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        unpack("x.zip", lying, 10)


def test_compression_without_a_bound_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"12345")
    with pytest.raises(ValueError, match="'a' is not a plain file"):
        unpack("x.zip", buffer.getvalue(), 5)


def test_sparse_tar_members_are_refused():
    """A terabyte of nothing in a header."""
    member = tarfile.TarInfo("hole")
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(2**40),
    }
    with pytest.raises(ValueError, match="sparse member 'hole'"):
        unpack("x.tar.gz", *tarred([(member, b"0\n".ljust(512, b"\0"))]))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_are_noticed(damage):
    content = b"some words, some of them again, and some words".ljust(200, b"x")
    for name, (data, size) in {
        "x.zip": zipped([("a", content)]),
        "x.gz": (gzip.compress(content), len(content)),
    }.items():
        if damage == "cut":
            data = data[: len(data) // 2]
        else:
            data = data[:45] + bytes([data[45] ^ 255]) + data[46:]
        with pytest.raises((OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)):
            unpack(name, data, size)
