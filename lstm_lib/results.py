"""Stored results of `experiments/` and `benchmarks/`: one format, one writer, one reader.

A result is one JSON file, ``NAME.json`` or, of many runs, ``NAME/RUN.json``, with the keys

    config    dict: all that the result depends on, besides the seed and the versions
    seed      int, a list or dict of them, or null
    commit    the hash of the source, 40 hexadecimal digits, or null
    versions  dict of str: "python", "numpy", "torch", ...
    device    dict: "processor" and "cores", "gpu" where one was used; or null
    time      dict: "seconds" (null if the result was put together from several runs of a
              script) and "date" (UTC); or null
    metrics   dict: the numbers
    curve     list of rows, or a dict of lists, of what was measured on the way; or null

null stands for what was not recorded. No machine, user or path is named.
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from .files import write_atomically

FOLDER = Path(__file__).with_name("data") / "results"
"""Where the results of the book lie: inside the package, so that they come with it."""

# A folder is a package to setuptools, which has no dot in its name.
_NAME = re.compile(r"[A-Za-z0-9][\w+-]*(/[A-Za-z0-9][\w.+, -]*)?", re.ASCII)
_TYPES = {
    "config": (dict,),
    "seed": (int, list, dict, None),
    "commit": (str, None),
    "versions": (dict,),
    "device": (dict, None),
    "time": (dict, None),
    "metrics": (dict,),
    "curve": (list, dict, None),
}


def save(
    name,
    *,
    config,
    seed,
    metrics,
    curve=None,
    seconds=None,
    versions=None,
    device=None,
    folder=FOLDER,
):
    """Write a result, whole or not at all, with the commit, versions, device and date of now.

    Parameters
    ----------
    name : str
        ``"NAME"``, or ``"NAME/RUN"`` for one of many runs.
    config, seed, metrics, curve
        JSON values as above; NumPy numbers and arrays become numbers and lists.
    seconds : float, optional
        What the run took.
    versions : dict, optional
        More of them: data, kernels.
    device : dict, optional
        More about it, such as ``{"threads": 1}``.
    folder : path
        Default: inside the package.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If the name is not of that form, a number is not finite, or a string holds the path of
        the home or working folder; the message says where.
    TypeError
        If a value has another type than above.
    """
    result = {
        "config": config,
        "seed": seed,
        "commit": commit(),
        "versions": current_versions() | (versions or {}),
        "device": current_device() | (device or {}),
        "time": {
            "seconds": None if seconds is None else round(float(seconds), 1),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
        "metrics": metrics,
        "curve": curve,
    }
    path = _path(name, folder)
    data = _text(check(_plain(result, "result")))
    for private in {str(Path.home()), os.getcwd()} - {"/"}:
        if json.dumps(private)[1:-1] in data:
            raise ValueError(f"result: expected no path of this machine, found {private}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.encode())
    return path


def load(name, folder=FOLDER):
    """Read a stored result.

    Parameters
    ----------
    name : str
        As in `save`. ``"NAME"`` of many runs gives all of them.

    Returns
    -------
    dict
        With the keys above; for many runs a dict of those, by the name of the run, in order.

    Raises
    ------
    FileNotFoundError
        If there is none; the message names those there are.
    ValueError, TypeError
        If the file is not a result.
    """
    path = _path(name, folder)
    if path.is_file():
        return _read(path)
    runs = {p.stem: _read(p) for p in sorted((Path(folder) / name).glob("*.json"))}
    if not runs or "/" in name:
        raise FileNotFoundError(f"name: no result {name!r}; there are {', '.join(names(folder))}")
    return runs


def names(folder=FOLDER):
    """The names of all stored results: ``"NAME"`` and ``"NAME/RUN"``, in order."""
    folder = Path(folder)
    return sorted(
        p.relative_to(folder).as_posix().removesuffix(".json") for p in folder.rglob("*.json")
    )


def finished(name, config, seed, folder=FOLDER):
    """The stored result of this config and seed, or None: a sweep leaves out what it has.

    Raises
    ------
    ValueError
        If there is a result of that name with another config or seed: it must be removed, or
        the run named otherwise.
    """
    path = _path(name, folder)
    if not path.is_file():
        return None
    found = _read(path)
    for key, value in (("config", config), ("seed", seed)):
        value = _plain(value, key)
        if found[key] != value:
            raise ValueError(f"{key}: {path.name} has {found[key]}, this run has {value}")
    return found


def kept(path, made_with, make):
    """A part of a long experiment: from the file `path`, or made now and written there.

    Parameters
    ----------
    path : path
        Outside the package: only the whole is a stored result. Its folder is made.
    made_with : dict
        All that the part depends on, as JSON values: settings, versions.
    make : callable, () -> JSON value

    Returns
    -------
    part : JSON value
        As it reads from the file, so that a run that was stopped ends in the same.

    Raises
    ------
    ValueError
        If the file was made with something else: it must be removed.
    """
    path, made_with = Path(path), _plain(made_with, "made_with")
    if not path.is_file():
        part = {"made with": made_with, "part": _plain(make(), "part")}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(part).encode())
    found = json.loads(path.read_text(encoding="utf8"))
    if found["made with"] != made_with:
        raise ValueError(f"{path} is of other settings or versions; remove it or its folder")
    return found["part"]


def check(result):
    """Return `result` if it has the form above; else raise ValueError or TypeError."""
    if not isinstance(result, dict):
        raise TypeError(f"result: expected a dict, got {type(result).__name__}")
    if result.keys() != _TYPES.keys():
        missing = [key for key in _TYPES if key not in result]
        unknown = sorted(result.keys() - _TYPES.keys())
        raise ValueError(f"result: missing {missing}, unknown {unknown}")
    for key, kinds in _TYPES.items():
        value = result[key]
        if not (value is None and None in kinds or type(value) in kinds):
            expected = " or ".join("null" if kind is None else kind.__name__ for kind in kinds)
            raise TypeError(f"{key}: expected {expected}, got {type(value).__name__}")
    if result["commit"] is not None and not re.fullmatch("[0-9a-f]{40}", result["commit"]):
        raise ValueError(f"commit: expected 40 hexadecimal digits, got {result['commit']!r}")
    if not all(isinstance(version, str) for version in result["versions"].values()):
        raise TypeError(f"versions: expected strings, got {result['versions']}")
    if result["time"] is not None and result["time"].keys() != {"seconds", "date"}:
        raise ValueError(f"time: expected seconds and date, got {sorted(result['time'])}")
    _plain(result, "result")
    return result


def commit():
    """The hash of the commit that this source is of; None outside git or with changes."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments):
        command = ["git", "-C", root, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None  # installed somewhere below another repository
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return None if changed else git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def current_versions():
    """Versions of Python, NumPy and, if it is imported, torch."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    if "torch" in sys.modules:
        versions["torch"] = sys.modules["torch"].__version__
    return versions


def current_device():
    """The model of the processor, its cores, and the GPU if torch uses one."""
    device = {"processor": _processor(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        device["gpu"] = torch.cuda.get_device_name()
    return device


def _processor():
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*:\s*(.+)$", about, re.MULTILINE)
    return model[1].strip() if model else platform.machine()


def _path(name, folder):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "name: expected 'NAME' or 'NAME/RUN' of letters, digits and _ + - "
            f"(in RUN dots, commas and blanks too), got {name!r}"
        )
    return Path(folder) / f"{name}.json"


def _read(path):
    try:
        result = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from error
    try:
        return check(result)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path.name}: {error}") from error


def _plain(value, where):
    """JSON values for NumPy's and for tuples; all numbers finite, all keys strings."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            raise ValueError(f"{where}: expected a finite number, got {value}")
        return value
    if isinstance(value, list | tuple):
        return [_plain(v, f"{where}[{k}]") for k, v in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: expected strings as keys, got {key!r}")
        return {key: _plain(v, f"{where}.{key}") for key, v in value.items()}
    raise TypeError(f"{where}: expected a JSON value, got {type(value).__name__}")


def _text(result):
    """JSON that a person can read: one key, or one row of a table, a line."""
    lines = (f" {json.dumps(key)}: {_block(value, 2)}" for key, value in result.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value, depth):
    flat = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        heads, inside = [f"{json.dumps(k, ensure_ascii=False)}: " for k in value], value.values()
    elif isinstance(value, list):
        heads, inside = [""] * len(value), value
    else:
        return flat
    table = isinstance(value, dict) or any(isinstance(v, dict | list) for v in inside)
    if depth > 3 or not table or len(flat) <= 98 - depth:
        return flat
    pad = " " * depth
    items = (f"\n{pad}{head}{_block(v, depth + 1)}" for head, v in zip(heads, inside, strict=True))
    return f"{flat[0]}{','.join(items)}\n{pad[1:]}{flat[-1]}"
