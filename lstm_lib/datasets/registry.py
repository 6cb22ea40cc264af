"""What the library knows of every data set: files, hashes, licence, counts."""

import difflib
import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes
    ----------
    path : str
        Where it lies below a data folder, with forward slashes: ``"ptb/ptb.train.txt"``.
    url : str
        Where it is downloaded from, fixed to one commit or tag.
    sha256 : str
        64 hexadecimal digits.
    bytes : int
    unpacked : int or None
        Bytes that come out of a compressed file; None for others.
    """

    path: str
    url: str
    sha256: str
    bytes: int
    unpacked: int | None = None


@dataclass(frozen=True)
class Info:
    """What is known of a data set before it is read.

    Attributes
    ----------
    name, task, source, licence, citation, note : str
        `source` is the page of the repository that the files come from.
    local_only : bool
        True where the licence forbids passing the data on, or none is stated: measure on it,
        and neither publish nor commit it.
    counts : dict of str to int
        Sizes that the parsed data must have, the published ones among them.
    files : tuple of File
    """

    name: str
    task: str
    source: str
    licence: str
    local_only: bool
    citation: str
    note: str
    counts: dict[str, int]
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Size of all files as they are downloaded."""
        return sum(file.bytes for file in self.files)

    @property
    def notice(self) -> str:
        """The line that is shown on first use."""
        local = " Local use only: do not pass it on." if self.local_only else ""
        return f"{self.name}: {self.citation}. Licence: {self.licence}.{local}"


def _read() -> dict[str, Info]:
    text = (files("lstm_lib") / "data" / "datasets.json").read_text(encoding="utf-8")
    return {
        name: Info(name=name, **(entry | {"files": tuple(File(**file) for file in entry["files"])}))
        for name, entry in json.loads(text).items()
    }


SETS = _read()


def names() -> list[str]:
    """Names of all data sets, sorted."""
    return sorted(SETS)


def info(name: str) -> Info:
    """What is known of a data set; nothing is read or downloaded.

    Raises
    ------
    ValueError
        If there is no such data set; the message has the nearest name and all others.
    """
    if name not in SETS:
        near = difflib.get_close_matches(str(name).lower(), SETS, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"name: no data set {name!r}{meant} There are {', '.join(names())}")
    return SETS[name]
