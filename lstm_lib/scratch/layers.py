"""Recurrent layers, stacked and in two directions, and what stands around them.

Sequences are time first: x (T, B, D). No gate equation stands here.
"""

from types import MappingProxyType

import numpy as np

from .cells import GRUCell, LSTMCell, RNNCell, describe
from .functions import (
    check_dtype,
    check_float,
    check_ids,
    check_rng,
    check_shape,
    check_size,
)
from .fused import Fused, GRUTape, LSTMTape, RNNTape
from .recurrent import Recurrent, check_input, check_lengths


class RNN(Fused):
    """Tanh recurrent layer: `RNNCell` at every step. The state is h (B, H).

    `params`: W_x (D, H), W_h (H, H), b (H,). Arguments and errors are those of `RNNCell`,
    `forward` and `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(RNNCell(input_size, hidden_size, rng=rng, dtype=dtype), RNNTape)


class LSTM(Fused):
    """LSTM layer: `LSTMCell` at every step. The state is the tuple (h, c), each (B, H).

    `params`: W_x (D, 4H), W_h (H, 4H), b (4H,), blocks i, f, g, o. Arguments and errors are
    those of `LSTMCell`, `forward` and `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(LSTMCell(input_size, hidden_size, rng=rng, dtype=dtype), LSTMTape)


class GRU(Fused):
    """GRU layer: `GRUCell` at every step. The state is h (B, H).

    `params`: W_x (D, 3H), W_h (H, 3H), blocks r, z, n, and b_x, b_h (3H,) or b (3H,) as
    `reset_after` is True or False. Arguments and errors are those of `GRUCell`, `forward` and
    `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64, reset_after=True):
        cell = GRUCell(input_size, hidden_size, rng=rng, dtype=dtype, reset_after=reset_after)
        super().__init__(cell, GRUTape if reset_after else None)


class Container:
    """Named layers whose parameters and gradients are seen as one, as `name.key`.

    Parameters
    ----------
    **layers : name=layer, each with `params` and `grads`

    Attributes
    ----------
    params, grads : read-only mappings of str to array
        `Container(rnn=RNN(...), readout=Linear(...)).params` has the keys "rnn.W_x", ...,
        "readout.b". The arrays are the layers' own: write into them to change a layer.

    Raises
    ------
    ValueError
        If there is no layer.
    """

    def __init__(self, **layers):
        if not layers:
            raise ValueError("layers: expected at least one layer, got none")
        self._layers = layers

    @property
    def params(self):
        return self._merged("params")

    @property
    def grads(self):
        return self._merged("grads")

    def _merged(self, what):
        return MappingProxyType(
            {
                f"{name}.{key}": array
                for name, layer in self._layers.items()
                for key, array in getattr(layer, what).items()
            }
        )


def _check_layer(layer, name):
    if not isinstance(layer, Recurrent | Stacked | Bidirectional):
        raise TypeError(f"{name}: expected a recurrent layer, got {type(layer).__name__}")


class Stacked(Container):
    """Layers on top of each other: each reads the hidden states of the one below.

    Parameters
    ----------
    layers : sequence of different `Recurrent` or `Bidirectional` layers, bottom first

    The state is a list with one state a layer. Keys of `params`: "0.W_x", "1.W_x", ...

    Raises
    ------
    TypeError
        If one of them is not a recurrent layer.
    ValueError
        If there is no layer, one stands twice, or a layer's input size or dtype does not
        fit the one below.
    """

    def __init__(self, layers):
        self.layers = list(layers)
        super().__init__(**{str(k): layer for k, layer in enumerate(self.layers)})
        for k, layer in enumerate(self.layers):
            _check_layer(layer, f"layers[{k}]")
        for k, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if above.input_size != below.output_size:
                raise ValueError(
                    f"layers[{k + 1}]: expected input_size {below.output_size}, "
                    f"got {above.input_size}"
                )
            if above.dtype != below.dtype:
                raise ValueError(
                    f"layers[{k + 1}]: expected dtype {below.dtype}, got {above.dtype}"
                )
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise ValueError("layers: expected different layers, got one of them twice")
        self.input_size = self.layers[0].input_size
        self.output_size = self.layers[-1].output_size
        self.dtype = self.layers[0].dtype
        self._batch_size = None

    def check_state(self, state, batch_size, name="state"):
        """Return the list of the layers' checked states; None stands for zeros."""
        if state is None:
            state = [None] * len(self.layers)
        if not isinstance(state, list | tuple) or len(state) != len(self.layers):
            raise ValueError(
                f"{name}: expected {len(self.layers)} layer states, got {describe(state)}"
            )
        return [
            layer.check_state(s, batch_size, f"{name}[{k}]")
            for k, (layer, s) in enumerate(zip(self.layers, state, strict=True))
        ]

    def forward(self, x, state=None, lengths=None):
        """As `Recurrent.forward`, with x (T, B, D) and hs (T, B, output_size) of the top."""
        x = check_input(x, self)
        B = x.shape[1]
        # Checked before any layer runs, so that an error leaves all of them as they were.
        states = self.check_state(state, B)
        finals = []
        for layer, s in zip(self.layers, states, strict=True):
            x, final = layer.forward(x, s, lengths)
            finals.append(final)
        self._batch_size = B
        return x, finals

    def backward(self, dhs, dstate=None):
        """As `Recurrent.backward`; `dhs` is for the top layer, `dstate` one entry a layer."""
        if self._batch_size is None:
            raise RuntimeError("backward: call forward first")
        dstates = self.check_state(dstate, self._batch_size, "dstate")
        d0 = [None] * len(self.layers)
        for k in reversed(range(len(self.layers))):
            dhs, d0[k] = self.layers[k].backward(dhs, dstates[k])
        return dhs, d0


class Bidirectional(Container):
    """Two layers over the same sequence, one of them from its end (Schuster & Paliwal, 1997).

    hs[t] = [forward layer after steps 0 .. t, backward layer after steps last .. t]

    Parameters
    ----------
    fwd, bwd : `Recurrent` layers with the same input size and dtype

    The state is the tuple (forward layer's, backward layer's). With `lengths` the backward
    layer starts at each sequence's last real step. Keys of `params`: "fwd.W_x", "bwd.W_x".

    Raises
    ------
    TypeError
        If one of them is not a recurrent layer.
    ValueError
        If the two layers differ in input size or dtype, or are the same object.
    """

    def __init__(self, fwd, bwd):
        _check_layer(fwd, "fwd")
        _check_layer(bwd, "bwd")
        if fwd is bwd:
            raise ValueError("bwd: expected a layer of its own, got the forward layer")
        for what in ("input_size", "dtype"):
            if getattr(fwd, what) != getattr(bwd, what):
                raise ValueError(
                    f"bwd: expected {what} {getattr(fwd, what)}, got {getattr(bwd, what)}"
                )
        super().__init__(fwd=fwd, bwd=bwd)
        self.fwd, self.bwd = fwd, bwd
        self.input_size, self.dtype = fwd.input_size, fwd.dtype
        self.output_size = fwd.output_size + bwd.output_size
        self._order = None

    def check_state(self, state, batch_size, name="state"):
        """Return the pair of the two layers' checked states; None stands for zeros."""
        if state is None:
            state = None, None
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise ValueError(
                f"{name}: expected a pair (forward state, backward state), got {describe(state)}"
            )
        return (
            self.fwd.check_state(state[0], batch_size, f"{name}[0]"),
            self.bwd.check_state(state[1], batch_size, f"{name}[1]"),
        )

    def forward(self, x, state=None, lengths=None):
        """As `Recurrent.forward`, with hs (T, B, H of fwd + H of bwd)."""
        x = check_input(x, self)
        T, B, _ = x.shape
        order = _reversal(np.full(B, T) if lengths is None else check_lengths(lengths, T, B), T)
        # Checked before either layer runs, so that an error leaves both as they were.
        s_fwd, s_bwd = self.check_state(state, B)
        hs_fwd, f_fwd = self.fwd.forward(x, s_fwd, lengths)
        hs_bwd, f_bwd = self.bwd.forward(_reorder(x, order), s_bwd, lengths)
        self._order = order
        return np.concatenate([hs_fwd, _reorder(hs_bwd, order)], axis=2), (f_fwd, f_bwd)

    def backward(self, dhs, dstate=None):
        """As `Recurrent.backward`, with dhs (T, B, H of fwd + H of bwd)."""
        if self._order is None:
            raise RuntimeError("backward: call forward first")
        dhs_fwd = dhs_bwd = None
        if dhs is not None:
            dhs = check_float(dhs, self.dtype, "dhs")
            check_shape(dhs, (*self._order.shape, self.output_size), "dhs")
            dhs_fwd = dhs[:, :, : self.fwd.output_size]
            dhs_bwd = _reorder(dhs[:, :, self.fwd.output_size :], self._order)
        d_fwd, d_bwd = self.check_state(dstate, self._order.shape[1], "dstate")
        dx_fwd, d0_fwd = self.fwd.backward(dhs_fwd, d_fwd)
        dx_bwd, d0_bwd = self.bwd.backward(dhs_bwd, d_bwd)
        return dx_fwd + _reorder(dx_bwd, self._order), (d0_fwd, d0_bwd)


def _reversal(lengths, T):
    """Indices (T, B) that reverse each sequence's real steps and leave its padding in place."""
    t = np.arange(T)[:, None]
    return np.where(t < lengths, lengths - 1 - t, t)


def _reorder(a, order):
    """a[order[t, b], b] for a (T, B, ...): a reversal is its own inverse."""
    return np.take_along_axis(a, order[:, :, None], axis=0)


class Linear:
    """Affine map of the last axis, y = x W + b.

    Parameters
    ----------
    in_features, out_features : int
    rng : numpy.random.Generator; W and b are drawn from U(-1/√in, 1/√in)
    dtype : floating dtype

    `params`: W (in, out), b (out,). `backward` overwrites `grads`.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, `rng` is not a Generator or `dtype` is not
        floating.
    """

    def __init__(self, in_features, out_features, *, rng, dtype=np.float64):
        self.in_features = check_size(in_features, "in_features")
        self.out_features = check_size(out_features, "out_features")
        self.dtype = check_dtype(dtype)
        check_rng(rng)
        bound = 1 / np.sqrt(self.in_features)
        self.params = {
            "W": rng.uniform(-bound, bound, (in_features, out_features)).astype(self.dtype),
            "b": rng.uniform(-bound, bound, out_features).astype(self.dtype),
        }
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}
        self._x = None

    def forward(self, x):
        """Return y (..., out) for x (..., in).

        TypeError if x is not floating, ValueError if its last axis is not `in`.
        """
        x = check_float(x, self.dtype, "x")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x: expected shape (..., {self.in_features}), got {x.shape}")
        self._x = x.copy()  # `backward` reads it, and the caller may write into its own
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy):
        """Return dx (..., in) for dy (..., out), and set `grads`.

        RuntimeError if there was no `forward`; TypeError or ValueError if the dtype or shape of
        dy is wrong, and `grads` are then untouched.
        """
        if self._x is None:
            raise RuntimeError("backward: call forward first")
        dy = check_float(dy, self.dtype, "dy")
        check_shape(dy, (*self._x.shape[:-1], self.out_features), "dy")
        rows = dy.reshape(-1, self.out_features)
        self.grads = {
            "W": self._x.reshape(-1, self.in_features).T @ rows,
            "b": rows.sum(axis=0),
        }
        return dy @ self.params["W"].T


class Embedding:
    """Table of vectors, y = W[ids]: the product of a one-hot row with W, without the product.

    Parameters
    ----------
    num_embeddings : int, V
    embedding_dim : int, E
    rng : numpy.random.Generator; W is drawn from N(0, 1)
    dtype : floating dtype

    `params`: W (V, E). `backward` overwrites `grads`.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, `rng` is not a Generator or `dtype` is not
        floating.
    """

    def __init__(self, num_embeddings, embedding_dim, *, rng, dtype=np.float64):
        self.num_embeddings = check_size(num_embeddings, "num_embeddings")
        self.embedding_dim = check_size(embedding_dim, "embedding_dim")
        self.dtype = check_dtype(dtype)
        check_rng(rng)
        table = rng.standard_normal((self.num_embeddings, self.embedding_dim))
        self.params = {"W": table.astype(self.dtype)}
        self.grads = {"W": np.zeros_like(self.params["W"])}
        self._ids = None

    def forward(self, ids):
        """Return vectors ids.shape + (E,) for integer ids in 0 .. V - 1.

        TypeError if ids are not integers, ValueError if one is out of range.
        """
        self._ids = check_ids(ids, self.num_embeddings, "ids").copy()
        return self.params["W"][self._ids]

    def backward(self, dy):
        """Set `grads` from dy ids.shape + (E,). An id used twice adds its gradients.

        Raises as `Linear.backward`.
        """
        if self._ids is None:
            raise RuntimeError("backward: call forward first")
        dy = check_float(dy, self.dtype, "dy")
        check_shape(dy, (*self._ids.shape, self.embedding_dim), "dy")
        grad = np.zeros_like(self.params["W"])
        np.add.at(grad, self._ids, dy)
        self.grads = {"W": grad}
