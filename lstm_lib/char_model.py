"""A character model: one-hot characters, one recurrent layer, a linear layer, a softmax.

    x_t = one_hot(character t)          (V,), V = 96
    h_t = RNN or LSTM layer of x        (H,)
    p(next character) = softmax(h_t W + b)

It is trained to predict the next character (Elman, 1990; Graves, 2013) and measured in bits
per character, the mean of -log2 p(character that came).
"""

from importlib.resources import as_file, files

import numpy as np

from . import scratch
from .files import read_safetensors, write_safetensors
from .tasks import stdlib_text
from .tasks.stdlib_text import VOCAB, decode, encode

_CELLS = {"lstm": scratch.LSTM, "rnn": scratch.RNN}
_FORMATS = {"lstm": "char-lstm 1", "rnn": "char-rnn 1"}
_CHUNK = 256  # time steps per forward pass when a long text is measured: bounds the memory


class CharModel(scratch.Container):
    """Predicts the next character of a text over `lstm_lib.tasks.stdlib_text.VOCAB`.

    Parameters
    ----------
    cell : {"lstm", "rnn"}
    hidden_size : int
        H.
    rng : numpy.random.Generator
        Draws the initial parameters as the layers of `lstm_lib.scratch` do; for the LSTM the
        forget bias is then set to 1 and the other biases to 0 (Jozefowicz et al., 2015).
    dtype : floating dtype

    Attributes
    ----------
    layer : scratch.LSTM or scratch.RNN
        Input size V, hidden size H. Its state is (h, c) or h, each (B, H).
    out : scratch.Linear
        H to V.
    params, grads
        Of both layers, by the names ``"layer.W_x"`` ... ``"out.b"``: see `scratch.Container`.

    Raises
    ------
    ValueError
        If `cell` is neither "lstm" nor "rnn".
    TypeError, ValueError
        From the layers, for a wrong size, `rng` or `dtype`.
    """

    def __init__(self, cell, hidden_size, *, rng, dtype=np.float64):
        _check_cell(cell)
        self.cell = cell
        self.hidden_size = hidden_size
        self.layer = _CELLS[cell](len(VOCAB), hidden_size, rng=rng, dtype=dtype)
        self.out = scratch.Linear(hidden_size, len(VOCAB), rng=rng, dtype=dtype)
        super().__init__(layer=self.layer, out=self.out)
        self.dtype = self.layer.dtype
        if cell == "lstm":
            self.layer.params["b"][:] = 0
            self.layer.params["b"][hidden_size : 2 * hidden_size] = 1

    def forward(self, x, state=None):
        """Scores of every next character.

        Parameters
        ----------
        x : array of integers, shape (T, B)
            Positions in VOCAB, time first.
        state : state of the layer, optional
            Default: zeros.

        Returns
        -------
        logits : ndarray, shape (T, B, V)
        state : state after the last step

        Raises
        ------
        TypeError, ValueError
            If `x` does not hold integers of 0 to V - 1, has not two axes, or the state does
            not fit.
        """
        x = np.asarray(x)
        if x.ndim != 2:
            raise ValueError(f"x: expected shape (T, B), got {x.shape}")
        hs, state = self.layer.forward(scratch.one_hot(x, len(VOCAB), self.dtype), state)
        return self.out.forward(hs), state  # (char-p)

    def loss_and_grads(self, x, y, state=None):
        """One forward and backward pass (truncated BPTT: no gradient reaches `state`).

        Parameters
        ----------
        x, y : arrays of integers, shape (T, B)
            Characters, and the character after each.
        state : state of the layer, optional

        Returns
        -------
        loss : float
            Mean cross-entropy in nats.
        grads : dict of str to ndarray
            Keys and shapes of `params`.
        state : state after the last step, to be carried into the next batch

        Raises
        ------
        TypeError, ValueError
            As `forward`; also if `y` has not the shape of `x`.
        """
        logits, state = self.forward(x, state)
        loss, dlogits = scratch.softmax_cross_entropy(logits, y)
        self.layer.backward(self.out.backward(dlogits))
        return loss, self.grads, state

    def bits(self, ids, streams=1):
        """Bits of each character of a long text, given all before it.

        The state is carried through the whole text. With more than one stream the text is cut
        into that many equal parts which are read side by side, each from the zero state: much
        faster, and a little higher at the beginning of each part.

        Parameters
        ----------
        ids : array of integers, shape (N,)
        streams : int
            B.

        Returns
        -------
        ndarray, shape (n B,) with n = (N - 1) // B
            Entry k belongs to ``ids[k + 1]``; the first character is not predicted.

        Raises
        ------
        TypeError, ValueError
            As `stdlib_text.streams`.
        """
        x, y = stdlib_text.streams(ids, streams)
        state, nats = None, np.empty(x.shape)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            logits, state = self.forward(x[part], state)
            log_p = scratch.log_softmax(logits)
            nats[part] = -np.take_along_axis(log_p, y[part, :, None], axis=-1)[..., 0]
        return nats.T.ravel() / np.log(2)  # (char-bits)

    def bits_per_character(self, ids, streams=1):
        """Mean of `bits`."""
        return float(self.bits(ids, streams).mean())

    def sample(self, prompt, length, temperature=1.0, *, rng):
        """Write `length` characters that follow `prompt`.

        Each is drawn from softmax(logits / temperature) and fed back as the next input.

        Parameters
        ----------
        prompt : str
            At least one character of VOCAB; it is not part of the result.
        length : int
        temperature : float
            Above 0. Below 1 the likely characters become likelier.
        rng : numpy.random.Generator

        Returns
        -------
        str of `length` characters

        Raises
        ------
        ValueError
            If `prompt` is empty or holds other characters, `length` is negative, or
            `temperature` is not above 0.
        """
        if not prompt:
            raise ValueError("prompt: expected at least one character, got ''")
        if length < 0:
            raise ValueError(f"length: expected at least 0, got {length}")
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")
        logits, state = self.forward(encode(prompt)[:, None])
        written = np.empty(length, np.int64)
        for k in range(length):
            # (char-temperature)
            p = scratch.softmax(logits[-1, 0].astype(np.float64) / temperature)
            written[k] = rng.choice(len(VOCAB), p=p)
            logits, state = self.forward(written[k : k + 1, None], state)
        return decode(written)


def save_char_model(model, path, metadata):
    """Write a character model with 8-bit weights, one scale for each row.

    A row w is stored as integers q = round(w / s), s = max|w| / 127, and read as s q, so no
    weight moves by more than s / 2. The file (safetensors) holds, with G = 4 blocks of H for
    an LSTM (gates i, f, g, o) and G = 1 for an RNN,

    =============== =========== ======== =====================================
    name            shape       dtype    in the model
    =============== =========== ======== =====================================
    weight_ih_t     (V, GH)     int8     W_x, one row for each character
    weight_hh       (GH, H)     int8     W_h transposed
    out_weight      (V, H)      int8     W of the linear layer, transposed
    <name>.scale    (rows,)     float32  s of each row of the three
    bias            (GH,)       float32  b
    out_bias        (V,)        float32  b of the linear layer
    =============== =========== ======== =====================================

    Parameters
    ----------
    model : CharModel
    path : path
    metadata : dict of str to str
        Kept in the file, beside ``"format"`` and ``"vocab"``.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    params = model.params
    for name, array in params.items():
        if not np.isfinite(array).all():
            raise ValueError(f"model: expected finite weights, {name} has others")
    tensors = {
        "bias": params["layer.b"].astype(np.float32),
        "out_bias": params["out.b"].astype(np.float32),
    }
    for name, w in (
        ("weight_ih_t", params["layer.W_x"]),
        ("weight_hh", params["layer.W_h"].T),
        ("out_weight", params["out.W"].T),
    ):
        tensors[name], tensors[f"{name}.scale"] = _quantise(w)
    write_safetensors(path, tensors, {**metadata, "format": _FORMATS[model.cell], "vocab": VOCAB})


def load_char_model(path=None, cell="lstm"):
    """Read a character model that comes with the book, or another such file.

    Parameters
    ----------
    path : path, optional
        A file of `save_char_model`. Default: the model that ``experiments/char_model.py``
        trained, an LSTM with H = 128 or an RNN with H = 224.
    cell : {"lstm", "rnn"}

    Returns
    -------
    model : CharModel
        In float64, with weights ``scale * int8``.
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If `cell` is neither "lstm" nor "rnn", or the file is truncated, foreign, of the other
        cell, or made for another vocabulary.
    """
    _check_cell(cell)
    if path is None:
        with as_file(files("lstm_lib") / "data" / f"char_{cell}.safetensors") as included:
            return load_char_model(included, cell)
    tensors, metadata = read_safetensors(path, _FORMATS[cell])
    if metadata.get("vocab") != VOCAB:
        raise ValueError(
            f"path: expected the vocabulary {VOCAB!r}, got {metadata.get('vocab')!r} in {path}"
        )
    hidden_size = tensors["weight_hh"].shape[1]
    # The drawn weights are all overwritten.
    model = CharModel(cell, hidden_size, rng=np.random.default_rng(0))
    model.layer.params["W_x"][:] = _dequantise(tensors, "weight_ih_t")
    model.layer.params["W_h"][:] = _dequantise(tensors, "weight_hh").T
    model.layer.params["b"][:] = tensors["bias"]
    model.out.params["W"][:] = _dequantise(tensors, "out_weight").T
    model.out.params["b"][:] = tensors["out_bias"]
    return model, metadata


def _check_cell(cell):
    if cell not in _CELLS:
        raise ValueError(f"cell: expected 'lstm' or 'rnn', got {cell!r}")


def _quantise(w):
    scale = (np.abs(w).max(axis=1) / 127).astype(np.float32)
    scale[scale == 0] = 1  # a row of zeros
    return np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8), scale


def _dequantise(tensors, name):
    return tensors[name] * tensors[f"{name}.scale"].astype(np.float64)[:, None]
