"""A training loop for any framework, and checkpoints that resume to the same bits.

The loop knows nothing of models: it calls a function that makes one update and returns the
loss. NumPy alone is needed to import this module; a progress bar needs tqdm, a checkpoint
needs safetensors.
"""

import json
import math
import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

_FORMAT = "lstm_lib.checkpoint 1"


@dataclass
class History:
    """What a run of `fit` left behind.

    Attributes
    ----------
    losses : list of float
        Loss of every step in nats, in order: ``losses[k]`` belongs to step k + 1.
    validations : list of [int, float]
        Number of steps made, and what `validate` returned then.
    interrupted : bool
        True if the run was stopped from the keyboard.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[list] = field(default_factory=list)
    interrupted: bool = False


class TrainingDiverged(ArithmeticError):
    """The loss became infinite or not a number.

    Attributes
    ----------
    history : History
        Everything before the step that failed.
    """

    def __init__(self, message, history):
        super().__init__(message)
        self.history = history


def fit(
    step,
    batches,
    *,
    steps,
    validate=None,
    validate_every=None,
    checkpoint=None,
    checkpoint_every=None,
    history=None,
    progress=True,
    desc="training",
):
    """Call ``step(batch)`` for one batch after another until `steps` updates are made.

    Parameters
    ----------
    step : callable, batch -> float
        Makes one update and returns the loss before it, in nats.
    batches : iterable
        Must hold enough batches; it may be endless.
    steps : int
        Total number of updates, those in `history` included.
    validate : callable, () -> float, optional
        Measures the model, every `validate_every` steps and after the last one.
    checkpoint : callable, History -> None, optional
        Saves the model, every `checkpoint_every` steps and after the last one.
    validate_every, checkpoint_every : int, optional
        Default: after the last step only.
    history : History, optional
        That of an earlier run, to go on from; it is added to in place.
    progress : bool
        Show a bar of `tqdm.auto`. False writes nothing at all.
    desc : str
        The bar's label.

    Returns
    -------
    History
        After Ctrl-C or the notebook's stop button too, with ``interrupted`` True: the update
        under way may then be half made, so go on from a checkpoint, not from the model.

    Raises
    ------
    TrainingDiverged
        If a loss is not finite; the message names the step and the last finite loss.
    ValueError
        If a number of steps is not positive, `history` is already longer than `steps`, or
        the batches end too early.
    """
    history = History() if history is None else history
    for name, value in (
        ("steps", steps),
        ("validate_every", validate_every),
        ("checkpoint_every", checkpoint_every),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    done = len(history.losses)
    if done > steps:
        raise ValueError(f"history: expected at most steps = {steps} losses, got {done}")
    history.interrupted = False
    bar = _bar(desc, done, steps) if progress else None
    try:
        for batch in islice(batches, steps - done):
            loss = float(step(batch))
            if not math.isfinite(loss):
                last = f"{history.losses[-1]:.4g} nats" if history.losses else "none"
                raise TrainingDiverged(
                    f"loss {loss} at step {len(history.losses) + 1}; last finite loss: {last}. "
                    "Try a smaller learning rate, or clip the gradient.",
                    history,
                )
            history.losses.append(loss)
            done = len(history.losses)
            if validate is not None and _due(done, validate_every, steps):
                history.validations.append([done, float(validate())])
            if checkpoint is not None and _due(done, checkpoint_every, steps):
                checkpoint(history)
            if bar is not None:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
    except KeyboardInterrupt:
        history.interrupted = True
        return history
    finally:
        if bar is not None:
            bar.close()
    if done < steps:
        raise ValueError(f"batches: expected enough for {steps} steps, they ended after {done}")
    return history


def warmup_cosine(step, steps, *, warmup, floor=0.0):
    """Factor for the learning rate: a linear rise, then half a cosine down.

        min(1, (step + 1) / warmup) (floor + (1 - floor) (1 + cos(π step / steps)) / 2)

    (the cosine is that of Loshchilov & Hutter, 2017, without restarts).

    Parameters
    ----------
    step : int, 0 .. steps - 1
    steps : int, total number of steps
    warmup : int, steps of the rise, at least 1
    floor : float in [0, 1], the factor reached at the end

    Returns
    -------
    float in (0, 1]

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step: expected 0..{steps - 1}, got {step}")
    if warmup < 1:
        raise ValueError(f"warmup: expected at least 1, got {warmup}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor: expected a number in [0, 1], got {floor}")
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


def save_checkpoint(path, arrays, meta):
    """Write arrays and a description to one safetensors file.

    The file is written under another name in the same folder and then moved, so a run that
    is killed leaves the old checkpoint or the new one, never half of one. Nothing is pickled.

    Parameters
    ----------
    path : path
    arrays : dict of str to ndarray
        Parameters, optimiser slots, carried states: any numeric or boolean dtype.
    meta : dict
        Anything that JSON holds without loss: step counts, ``bit_generator.state``, losses.

    Raises
    ------
    TypeError
        If an array is not numeric, or `meta` is not a dict of JSON values.
    ValueError
        If `meta` holds a number that is not finite.
    """
    if not isinstance(meta, dict):
        raise TypeError(f"meta: expected a dict, got {type(meta).__name__}")
    text = json.dumps(meta, allow_nan=False)
    write_safetensors(path, arrays, {"format": _FORMAT, "meta": text})


def load_checkpoint(path):
    """Read what `save_checkpoint` wrote.

    Returns
    -------
    arrays : dict of str to ndarray
    meta : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or is not a checkpoint of `save_checkpoint`.
    """
    arrays, metadata = read_safetensors(path, _FORMAT)
    return arrays, json.loads(metadata["meta"])


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
    from safetensors.numpy import save

    copies = {}
    for name, array in arrays.items():
        # safetensors writes the buffer as it lies in memory: transposes must be laid out first.
        copies[name] = np.array(array, order="C")
        if copies[name].dtype.kind not in "biuf":
            raise TypeError(
                f"arrays[{name!r}]: expected numbers or booleans, got dtype {copies[name].dtype}"
            )
    data = save(copies, metadata)
    # safetensors writes the metadata in random order: sort the header, pad it to 8 bytes.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    write_atomically(path, len(header).to_bytes(8, "little") + header + data[end:])


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


def write_atomically(path, data):
    """Write bytes to `path` so that a reader sees the old file or the new one, whole."""
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _due(done, every, steps):
    return done == steps or (every is not None and done % every == 0)


def _bar(desc, done, steps):
    from tqdm.auto import tqdm

    return tqdm(desc=desc, initial=done, total=steps, unit="step")
