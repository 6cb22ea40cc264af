"""From a data set's name to the checked bytes of its files.

A file is looked for in ``$LSTM_BOOK_DATA``, then in the user's cache, then downloaded. What is
checked against the SHA-256 is what is handed on: the bytes in memory, not a file that another
process could change in between.
"""

import hashlib
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from .registry import File, Info

VARIABLE = "LSTM_BOOK_DATA"
RETRIES = 2


class DataNotFoundError(FileNotFoundError):
    """A data set is not on this computer, and cannot be downloaded."""


def read(info: Info, quiet: bool = False) -> dict[File, bytes]:
    """The bytes of every file of a data set, in order.

    Parameters
    ----------
    info : Info
    quiet : bool
        No progress bar for a download.

    Raises
    ------
    DataNotFoundError
        If a file is nowhere and cannot be downloaded. The message says why, and where to put
        the files by hand.
    ValueError
        If a file in ``$LSTM_BOOK_DATA`` has other content than it should. That folder is the
        user's own, and never written to.
    NotADirectoryError
        If ``$LSTM_BOOK_DATA`` is set, and is not a folder.
    """
    folder = _folder()
    # All of the user's folder first: a wrong file there is no reason to download others.
    found = {file: folder and _from_folder(folder, file) for file in info.files}
    missing = [file for file, data in found.items() if data is None]
    return found | (_from_cache(info, missing, quiet) if missing else {})


def _folder():
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"{VARIABLE}: expected a folder that exists, got {value!r}")
    return folder


def _from_folder(folder, file):
    path = folder / file.path
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if not _is(file, data):
        raise ValueError(
            f"{path} is not the file that it should be: expected {file.bytes:,} bytes with "
            f"SHA-256 {file.sha256}, got {len(data):,} bytes with {_sha256(data)}. Replace it by "
            f"{file.url} or take it out of the folder that {VARIABLE} names."
        )
    return data


def _from_cache(info, files, quiet):
    try:
        import pooch
        import tqdm  # noqa: F401
    except ImportError as error:
        reason = f"{error.name} is not installed, which downloads it: pip install pooch tqdm"
        raise DataNotFoundError(_advice(info, files, None, reason)) from None
    cache = pooch.os_cache("lstm-book")
    found = {}
    for k, file in enumerate(files):
        try:
            found[file] = _cached(cache / file.path, file) or _download(cache, file, quiet)
        except (OSError, ValueError) as error:
            # No chain: the trace of a failed connection is pages long, its message is enough.
            raise DataNotFoundError(_advice(info, files[k:], cache, error)) from None
    return found


def _cached(path, file):
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return data if _is(file, data) else None


def _download(cache, file, quiet):
    """Download into a folder of this process's own, check, and move into place in one step.

    Pooch alone would do nearly the same, but makes folders in a way that fails if another
    process makes them at that moment, and where a file cannot be renamed onto another
    (Windows) it copies, so that others can see half a file.

    A process that is killed leaves its folder ``download-...`` behind; nothing reads it.
    """
    import pooch
    from tqdm import tqdm

    def download(url, path, source):
        """One try, with a bar of its own."""
        options = {"unit": "B", "unit_scale": True, "disable": quiet}
        with (
            ExitStack() as opened,
            tqdm(desc=file.path, total=file.bytes, **options) as bar,
        ):
            # Pooch does not close an answer that is an error.
            hooks = {"response": lambda response, **_: opened.enter_context(response)}
            pooch.HTTPDownloader(progressbar=bar, hooks=hooks)(url, path, source)

    target = cache / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as folder:
        source = pooch.create(
            folder,
            base_url="",
            registry={target.name: f"sha256:{file.sha256}"},
            urls={target.name: file.url},
            retry_if_failed=RETRIES,
        )
        # Its lines would name the temporary folder; the bar says what is downloaded.
        logger = pooch.get_logger()
        level = logger.level
        logger.setLevel("WARNING")
        try:
            path = Path(source.fetch(target.name, downloader=download))
        finally:
            logger.setLevel(level)
        data = path.read_bytes()
        if not _is(file, data):
            raise OSError(f"{path} changed while it was read")
        os.replace(path, target)
    return data


def _advice(info, files, cache, reason):
    folder = os.environ.get(VARIABLE) or cache or "FOLDER"
    last = f"The folder may be another one, if the environment variable {VARIABLE} names it."
    if folder == "FOLDER":
        last = f"and set the environment variable {VARIABLE} to FOLDER, any folder you like."
    lines = [
        f"data set {info.name!r} ({info.bytes:,} bytes) is not on this computer and could not be "
        f"downloaded: {reason}",
        "To put it there by hand, save",
        *(f"  {file.url} ({file.bytes:,} bytes)\n    as {folder}/{file.path}" for file in files),
        last,
    ]
    return "\n".join(lines)


def _is(file, data):
    return len(data) == file.bytes and _sha256(data) == file.sha256


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
