"""Checkpoints that resume to the same bits: safetensors and JSON, never pickle.

A checkpoint holds everything that the rest of a run depends on. What that is, the caller says, by
name: model, optimiser, schedule, generators, place in the data, carried state. NumPy users need no
torch; torch is used where it is already imported.
"""

import copy
import hashlib
import json
import math
import os
import re
import sys
import warnings
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .files import safetensors_pieces, write_atomically
from .train import History

_FORMAT = "lstm_lib.checkpoint 2"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
_MARK = b'"sha256":"'
_NO_HASH = "0" * 64
_DICTS = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}


class DamagedCheckpoint(ValueError):
    """A file that is truncated, was changed after it was written, or is no checkpoint."""


class Carry:
    """A value that a checkpoint shall hold, such as the hidden state carried between batches.

    Attributes
    ----------
    value : None, a number, a string, an array or tensor, or lists, tuples and dicts of those
    """

    def __init__(self, value=None):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


class Checkpoints:
    """The checkpoints of one run, in one folder: ``step-00000123.safetensors`` and the like.

    Parameters
    ----------
    folder : path
        Made by the first `save`.
    parts : dict of str to object
        All that the rest of the run depends on. Each is one of:

        - an object with `state_dict` and `load_state_dict`: torch modules, optimisers and
          schedules, the optimisers of `lstm_lib.scratch`, `train.Batches`, `train.Streams`,
          `Carry`;
        - an object with `params`, a dict of live arrays: layers of `lstm_lib.scratch`;
        - a `numpy.random.Generator` or a `torch.Generator`.

        Where torch is imported, its global generators are kept too: dropout draws from them.
    keep : int
        How many of the latest are kept.
    config : dict, optional
        JSON values that name the run. A checkpoint with another `config` is refused.

    Attributes
    ----------
    joined : bool
        Whether the files in the folder are those of this run: something was saved or loaded.

    Raises
    ------
    TypeError
        If a part is none of these, or `config` is not a dict of JSON values.
    ValueError
        If `keep` is less than 1 or there is no part.
    NotADirectoryError
        If `folder` is a file.

    Notes
    -----
    A file is one safetensors file: the arrays, and JSON in its metadata with the rest and with
    the SHA-256 of the whole file (taken with zeros in the place of the hash).

    The same bits also need the same number of threads and the same kernels. On a GPU, the dropout
    between the layers of `torch.nn.LSTM` draws from a state of cuDNN that PyTorch does not show
    (pytorch/pytorch#104697): there put `nn.Dropout` between layers of your own.
    """

    def __init__(self, folder, parts, *, keep=2, config=None):
        if keep < 1:
            raise ValueError(f"keep: expected at least 1, got {keep}")
        if not parts:
            raise ValueError("parts: expected at least one part, got none")
        if Path(folder).exists() and not Path(folder).is_dir():
            raise NotADirectoryError(f"folder: expected a folder or nothing yet, got {folder}")
        for name, part in parts.items():
            _get_state(name, part)
        if not isinstance(config, dict | None):
            raise TypeError(f"config: expected a dict, got {type(config).__name__}")
        self.folder, self.parts, self.keep = Path(folder), dict(parts), keep
        self.config = json.loads(json.dumps(config, allow_nan=False))
        self.joined = False

    def steps(self):
        """The steps of the checkpoints in the folder, oldest first."""
        if not self.folder.is_dir():
            return []
        found = map(_NAME.fullmatch, os.listdir(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def path(self, step):
        """The file of a step."""
        return self.folder / f"step-{step:08d}.safetensors"

    def require_own(self):
        """Raise FileExistsError if the folder has checkpoints and they are not of this run."""
        if not self.joined and self.steps():
            raise FileExistsError(
                f"folder: {self.folder} has checkpoints of another run, the last of step "
                f"{self.steps()[-1]}; resume from it, or take another folder"
            )

    def save(self, history):
        """Write a checkpoint, whole or not at all, and remove those too old to be kept.

        Parameters
        ----------
        history : History
            What `fit` passes; the checkpoint is of step ``len(history.losses)``.

        Raises
        ------
        FileExistsError
            As `require_own`.
        TypeError
            If the state of a part holds something that is not a number, string, None, array or
            tensor, or lists, tuples and dicts of those.
        """
        step = len(history.losses)
        self.require_own()
        old = self.steps()
        arrays = {}
        meta = {
            "step": step,
            "config": self.config,
            "history": _encode(history.state_dict(), "history", arrays),
            "torch_rng": _encode(_torch_rng(), "torch_rng", arrays),
            "parts": {
                name: {
                    "type": type(part).__name__,
                    "state": _encode(_get_state(name, part), f"parts/{name}", arrays),
                }
                for name, part in self.parts.items()
            },
        }
        metadata = {"format": _FORMAT, "json": json.dumps(meta, allow_nan=False)}
        head, numbers = safetensors_pieces(arrays, metadata | {"sha256": _NO_HASH})
        start = head.index(_MARK) + len(_MARK)
        digest = _sha256(head, numbers)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(step), head[:start], digest, head[start + 64 :], numbers)
        self.joined = True
        # Later ones were refused, or the run has gone back behind them.
        stale = [s for s in old if s > step]
        for s in stale + [s for s in self.steps() if s <= step][: -self.keep]:
            self.path(s).unlink()
        for part in self.folder.glob("step-*.safetensors.part"):  # of a write that was killed
            part.unlink()

    def load(self, step=None, *, fallback=False):
        """Put every part back to where it was at the last checkpoint.

        Parameters
        ----------
        step : int, optional
            Default: the last one there is.
        fallback : bool
            Where a file is damaged, warn and take the one before.

        Returns
        -------
        History, or None if the folder has no checkpoint
            None only if no `step` was asked for.

        Raises
        ------
        DamagedCheckpoint
            If the file is truncated, changed, or not of this format; the message names the
            file and what is wrong. With `fallback`: if that holds for all.
        FileNotFoundError
            If there is no checkpoint of `step`.
        ValueError
            If names, types, shapes or dtypes are not those of the parts, or the config is
            another one. Nothing has been changed then.
        """
        steps = self.steps()
        if step is not None:
            if step not in steps:
                raise FileNotFoundError(f"step: no checkpoint of step {step} in {self.folder}")
            steps = [s for s in steps if s <= step]
        while steps:
            path = self.path(steps.pop())
            try:
                meta, arrays = _read(path)
            except DamagedCheckpoint as error:
                if not (fallback and steps):
                    raise
                before = self.path(steps[-1]).name
                warnings.warn(f"{error}; going on from {before}", stacklevel=2)
                continue
            return self._restore(path, meta, arrays)
        return None

    def _restore(self, path, meta, arrays):
        if meta["config"] != self.config:
            raise ValueError(f"{path}: config: {_difference(self.config, meta['config'])}")
        if meta["parts"].keys() != self.parts.keys():
            raise ValueError(
                f"{path}: expected the parts {sorted(self.parts)}, got {sorted(meta['parts'])}"
            )
        history = History()
        history.load_state_dict(_decode(meta["history"], arrays))
        rng = _decode(meta["torch_rng"], arrays)
        states = {}
        for name, part in self.parts.items():
            kept = meta["parts"][name]
            states[name] = _decode(kept["state"], arrays)
            if not _is_torch(part, "nn.Module") and kept["type"] != type(part).__name__:
                raise ValueError(
                    f"{path}: {name}: expected {type(part).__name__}, got {kept['type']}"
                )
            try:
                _check_state(name, part, states[name])
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        # A part may still refuse its state, and may do so half way.
        before = {name: copy.deepcopy(_get_state(name, part)) for name, part in self.parts.items()}
        done = []
        try:
            for name, part in self.parts.items():
                done.append(name)
                _set_state(part, states[name])
        except Exception as error:
            for name in done:
                _set_state(self.parts[name], before[name])
            raise ValueError(f"{path}: {done[-1]}: {error}") from error
        _set_torch_rng(rng)
        self.joined = True
        return history


def _is_torch(part, name):
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    kind = torch
    for attribute in name.split("."):
        kind = getattr(kind, attribute)
    return isinstance(part, kind)


def _get_state(name, part):
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        return part.state_dict()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if _is_torch(part, "Generator"):
        return part.get_state()
    if isinstance(getattr(part, "params", None), Mapping):
        return dict(part.params)
    raise TypeError(
        f"parts[{name!r}]: expected an object with state_dict and load_state_dict, with params, "
        f"or a random generator, got {type(part).__name__}"
    )


def _set_state(part, state):
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif _is_torch(part, "Generator"):
        part.set_state(state)
    else:
        for key, array in part.params.items():
            array[...] = state[key]


def _check_state(name, part, state):
    """Compare keys, shapes and dtypes, where they are known before the state is taken over."""
    if _is_torch(part, "optim.Optimizer"):
        sizes = [
            [len(group["params"]) for group in groups]
            for groups in (part.param_groups, state["param_groups"])
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{name}: expected parameter groups of {sizes[0]}, got {sizes[1]}")
        return
    # Schedules, generators and sources of data check their own; `params` are those of scratch.
    if not (_is_torch(part, "nn.Module") or isinstance(getattr(part, "params", None), Mapping)):
        return
    mine = _get_state(name, part)
    if mine.keys() != state.keys():
        missing, unknown = sorted(mine.keys() - state.keys()), sorted(state.keys() - mine.keys())
        raise ValueError(f"{name}: missing {missing}, unknown {unknown}")
    for key, array in mine.items():
        expected, got = _describe(array), _describe(state[key])
        if expected != got:
            raise ValueError(f"{name}.{key}: expected {expected}, got {got}")


def _describe(value):
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    return type(value).__name__


def _difference(mine, other):
    if not (isinstance(mine, dict) and isinstance(other, dict)):
        return f"expected {mine}, got {other}"
    for key in sorted(mine.keys() | other.keys()):
        if mine.get(key) != other.get(key) or (key in mine) != (key in other):
            return f"{key}: {_difference(mine.get(key), other.get(key))}"


def _torch_rng():
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_torch_rng(state):
    if state is None:
        return
    import torch

    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def _encode(value, path, arrays):
    """`value` as JSON, with its arrays moved to `arrays`; `_decode` is the inverse.

    JSON has no tuples, no keys but strings, no infinity: those are dicts with one tag. So are
    dicts themselves, which leaves no other meaning to a tag.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) in (list, tuple):
        items = [_encode(v, f"{path}/{k}", arrays) for k, v in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    for tag, kind in _DICTS.items():
        if type(value) is kind:
            return {
                tag: [
                    [_encode(k, f"{path}/(key)", arrays), _encode(v, f"{path}/{k}", arrays)]
                    for k, v in value.items()
                ]
            }
    tags = {}
    if _is_torch(value, "Tensor"):
        tag, array, tags["dtype"] = "tensor", _to_numpy(value), str(value.dtype)[6:]
    elif isinstance(value, np.ndarray):
        tag, array = "array", value
    elif isinstance(value, np.generic):
        tag, array = "scalar", np.asarray(value)
    else:
        raise TypeError(
            f"{path}: expected numbers, strings, None, arrays or tensors, or lists, tuples and "
            f"dicts of those, got {type(value).__module__}.{type(value).__name__}"
        )
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{path}: expected numbers or booleans, got dtype {array.dtype}")
    name = path.encode("ascii", "backslashreplace").decode()
    while name in arrays:
        name += "'"
    arrays[name] = array
    return {tag: name, **tags}


def _decode(value, arrays):
    if isinstance(value, list):
        return [_decode(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    tag, content = next(iter(value.items()))
    if tag == "float":
        return float(content)
    if tag == "tuple":
        return tuple(_decode(v, arrays) for v in content)
    if tag in _DICTS:
        return _DICTS[tag]({_decode(k, arrays): _decode(v, arrays) for k, v in content})
    if tag == "tensor":
        import torch

        dtype = getattr(torch, value["dtype"])
        return torch.from_numpy(arrays[content].copy()).view(dtype)
    return arrays[content][()] if tag == "scalar" else arrays[content].copy()


def _to_numpy(tensor):
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16 and its like: the bits, as integers
        import torch

        return tensor.view({1: torch.uint8, 2: torch.int16}[tensor.element_size()]).numpy()


def _sha256(*pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def _read(path):
    """Return the JSON and the arrays of a file whose hash is right."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:end])
        metadata = header.pop("__metadata__", {})
        size = end + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        format = metadata.get("format")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: truncated, or not a safetensors file") from error
    if format != _FORMAT:
        raise DamagedCheckpoint(f"{path}: expected format {_FORMAT!r}, got {format!r}")
    if len(data) != size:
        what = "truncated" if len(data) < size else "longer than it was"
        raise DamagedCheckpoint(f"{path}: {what}: expected {size} bytes, got {len(data)}")
    start = data.find(_MARK) + len(_MARK)
    rest = memoryview(data)[start + 64 :]
    if _sha256(data[:start], _NO_HASH.encode(), rest) != data[start : start + 64]:
        raise DamagedCheckpoint(f"{path}: changed after it was written: its SHA-256 is not right")
    from safetensors.numpy import load

    return json.loads(metadata["json"]), load(data)
