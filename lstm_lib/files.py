"""Files that are whole or not there: atomic writing, and safetensors with the same bytes."""

import json
import os
from pathlib import Path

import numpy as np


def write_atomically(path, *pieces):
    """Write bytes, one piece after another, so that a reader sees the old file or the new, whole.

    The bytes go to another name in the same folder, are flushed to the disk, and then take
    the name, so a process that is killed leaves the old file or the new one, never half of one.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_safetensors(path, arrays, metadata):
    """Write a safetensors file: the same bytes for the same content, whole or not at all.

    Parameters
    ----------
    path : path
    arrays : dict of str to ndarray
        Numbers or booleans, any shape.
    metadata : dict of str to str
        ``"format"`` names what the file is, for `read_safetensors`.

    Raises
    ------
    TypeError
        If an array does not hold numbers or booleans.
    """
    write_atomically(path, *safetensors_pieces(arrays, metadata))


def safetensors_pieces(arrays, metadata):
    """What `write_safetensors` writes: the head with names and metadata, and the numbers."""
    from safetensors.numpy import save

    laid_out = {}
    for name, array in arrays.items():
        # safetensors writes the buffer as it lies in memory: transposes must be laid out first.
        laid_out[name] = np.asarray(array, order="C")
        if laid_out[name].dtype.kind not in "biuf":
            raise TypeError(
                f"arrays[{name!r}]: expected numbers or booleans, got dtype {laid_out[name].dtype}"
            )
    data = save(laid_out, metadata)
    # safetensors writes the metadata in random order: sort the header, pad it to 8 bytes.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, memoryview(data)[end:]


def read_safetensors(path, format):
    """Read a safetensors file whose metadata says ``"format": format``.

    Returns
    -------
    arrays : dict of str to ndarray
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, is not a safetensors file, or is of another format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"path: {path} is truncated or is not a safetensors file") from error
    if metadata.get("format") != format:
        raise ValueError(
            f"path: expected a file of format {format!r}, got {metadata.get('format')!r} in {path}"
        )
    return arrays, metadata


def _sync_folder(folder):
    # The new name is safe only when the folder is. Windows cannot open a folder.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
