"""Compressed files read in memory: nothing is ever written to the disk.

Each function is told how many bytes must come out, and gives up before it holds more, so a
small file cannot unpack to a huge one. Archives must hold plain files with relative names;
links, absolute names and names with ``..`` are refused, though no name here ever becomes a path.
"""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import PurePosixPath, PureWindowsPath


def unpack(name: str, data: bytes, size: int | None) -> dict[str, bytes]:
    """The files that the file `name` holds, by their names in it.

    A ``.zip`` or ``.tar.gz`` gives its members, another ``.gz`` itself without that ending, and
    any other file itself.

    Parameters
    ----------
    name : str
        Its ending says what it is.
    data : bytes
    size : int or None
        Bytes that come out of it: of a zip all members, of a gz the stream. None for files
        that are not compressed.

    Raises
    ------
    ValueError
        If other than `size` bytes would come out, or an archive holds something else than
        plain files with safe names.
    OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError
        If `data` is not what the ending says, or is damaged.
    """
    if name.endswith(".zip"):
        return _unzip(name, data, size)
    if name.endswith(".tar.gz"):
        return _untar(name, _gunzip(name, data, size))
    if name.endswith(".gz"):
        return {name.removesuffix(".gz"): _gunzip(name, data, size)}
    return {name: data}


def _gunzip(name, data, size):
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        content = file.read(size + 1)
    _check_size(name, len(content), size)
    return content


def _unzip(name, data, size):
    files = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        # A member cannot give more than it declares: zipfile stops there.
        _check_size(name, sum(member.file_size for member in members), size)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and member.compress_type in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            )
            # filename has backslashes and NULs already replaced.
            _check_member(name, member.orig_filename, plain, files)
            if not member.is_dir():
                files[member.filename] = archive.read(member)
    return files


def _untar(name, data):
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            _check_member(name, member.name, member.isreg() or member.isdir(), files)
            # Sparse members may declare more than the archive holds.
            if member.issparse():
                raise ValueError(f"{name}: sparse member {member.name!r}")
            if member.isreg():
                files[member.name] = archive.extractfile(member).read()
    return files


def _check_size(name, got, expected):
    if got > expected:
        raise ValueError(f"{name}: more than the expected {expected:,} bytes would come out of it")
    if got < expected:
        raise ValueError(f"{name}: expected {expected:,} bytes to come out of it, got {got:,}")


def _check_member(archive, name, plain, seen):
    parts = PurePosixPath(name).parts
    absolute = name.startswith("/") or PureWindowsPath(name).drive
    if absolute or ".." in parts or "\\" in name or "\0" in name or not parts:
        raise ValueError(f"{archive}: unsafe name {name!r}; expected a relative path inside it")
    if not plain:
        raise ValueError(f"{archive}: {name!r} is not a plain file")
    if name in seen:
        raise ValueError(f"{archive}: two members are named {name!r}")
