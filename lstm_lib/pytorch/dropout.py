"""Dropout for recurrent networks: where the mask sits, and how long it stays the same.

Dropout sets each entry to zero with probability p and divides the others by 1 - p, so that the
mean stays. A feed-forward layer draws one mask for each input. A recurrent one has two more
choices: whether a mask changes from step to step, and what it is put on. All modules here do
nothing in evaluation mode, and draw from the generator they are given.

Shapes: T time steps, B batch size, D input size, H hidden size.
"""

from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

from lstm_lib.pytorch.cells import lstm_step
from lstm_lib.pytorch.layers import LSTM

PLACES = ("h each step", "c each step", "h locked", "candidate")
"""What `DropoutLSTM` can drop."""


def mask_like(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Draw a dropout mask of the shape of `x`: 0 with probability p, else 1 / (1 - p)."""
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= p
    # p = 1 keeps nothing: 0 / 0 would be NaN.
    return keep.to(x.dtype) / (1 - p) if p < 1 else torch.zeros_like(x)


class LockedDropout(nn.Module):
    """Dropout with one mask for all time steps of a sequence ("variational" dropout).

        y[t, b, d] = m[b, d] x[t, b, d],    m[b, d] = 0 or 1 / (1 - p)

    It belongs between layers, on the input, or on the output. A feature that is gone at one step
    is gone at all steps of that sequence.

    Parameters
    ----------
    p : float in [0, 1]
        Probability with which an entry of the mask is 0.
    generator : torch.Generator, optional
        Source of the masks; torch's global one if left out.

    Raises
    ------
    TypeError, ValueError
        If `p` is no number or outside [0, 1].

    References
    ----------
    Gal and Ghahramani (2016), "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks".
    """

    def __init__(self, p: float, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p = _probability(p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return x (T, B, D), masked in training mode.

        Raises
        ------
        ValueError
            If `x` has not three axes.
        """
        if x.dim() != 3:
            raise ValueError(f"x must have shape (T, B, D), got {tuple(x.shape)}")
        if not self.training or self.p == 0:
            return x
        return x * mask_like(x[:1], self.p, self.generator)

    def extra_repr(self) -> str:
        """Describe the module as `torch.nn` does."""
        return f"p={self.p}"


class WeightDrop(nn.Module):
    """A recurrent layer whose recurrent weights are dropped, anew at every call ("DropConnect").

        W_h' = M ⊙ W_h,    M[j, k] = 0 or 1 / (1 - p)

    The same matrix W_h' serves all steps and all sequences of the call. The layer itself is not
    changed: its parameters stay whole, get the gradient of the masked ones, and are saved under
    their own names after ``layer.``.

    Parameters
    ----------
    layer : nn.LSTM, nn.GRU, nn.RNN or the same of this package
    p : float in [0, 1]
        Probability with which a weight is 0.
    generator : torch.Generator, optional
        Source of the masks; torch's global one if left out.

    Raises
    ------
    TypeError, ValueError
        If `layer` has no recurrent weights, or `p` is no number or outside [0, 1].

    References
    ----------
    Merity, Keskar and Socher (2018), "Regularizing and Optimizing LSTM Language Models".
    """

    def __init__(
        self, layer: nn.Module, p: float, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        names = [n for n, _ in layer.named_parameters() if n.startswith("weight_hh")]
        if not names:
            raise TypeError(
                f"layer must have parameters weight_hh_l0 and so on, got {type(layer).__name__}"
            )
        self.layer = layer
        self.p = _probability(p)
        self.generator = generator
        self.names = names

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, with dropped weights in training mode."""
        if not self.training or self.p == 0:
            return self.layer(*args, **kwargs)
        dropped = {}
        for name in self.names:
            weight = getattr(self.layer, name)
            dropped[name] = weight * mask_like(weight, self.p, self.generator)
        return functional_call(self.layer, dropped, args, kwargs)

    def extra_repr(self) -> str:
        """Describe the module as `torch.nn` does."""
        return f"p={self.p}"


class DropoutLSTM(LSTM):
    """An LSTM layer with dropout inside the recurrence, at the place you name.

    `where` is one of

    * ``"h each step"``: the gates read m_t ⊙ h, a new mask at every step;
    * ``"c each step"``: the cell state that is carried becomes m_t ⊙ c, a new mask at every step;
      an entry survives k steps with probability (1 - p)^k;
    * ``"h locked"``: the gates read m ⊙ h, one mask for all steps (Gal & Ghahramani, 2016);
    * ``"candidate"``: the cell adds i ⊙ m_t ⊙ g, a new mask at every step, so what is written is
      dropped and what is kept is not (Semeniuta et al., 2016).

    The equations are those of `lstm_step`. In evaluation mode, or with p = 0, it is `LSTM`.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    p : float in [0, 1]
    where : str, one of `PLACES`
    generator : torch.Generator, optional
        Source of the masks; torch's global one if left out.
    device, dtype
        Of the parameters.

    Raises
    ------
    TypeError, ValueError
        If `where` is not known, or `p` is no number or outside [0, 1]; or as `LSTM` does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        p: float,
        where: str,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if where not in PLACES:
            raise ValueError(f"where must be one of {', '.join(map(repr, PLACES))}, got {where!r}")
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)
        self.p = _probability(p)
        self.where = where
        self.generator = generator

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over a batch of sequences.

        Parameters
        ----------
        input : Tensor, shape (T, B, D)
        hx : tuple (h, c), each (1, B, H), optional
            Zeros if left out.

        Returns
        -------
        output : Tensor, shape (T, B, H)
            h of every step, before the mask.
        state : tuple (h, c), each (1, B, H)

        Raises
        ------
        TypeError
            If `input` is packed: a mask belongs to a sequence, and packing loses sight of it.
        ValueError
            In training mode, if `input` has not three axes or no time step; else as `LSTM`.
        """
        if isinstance(input, PackedSequence):
            raise TypeError("input must be a padded tensor (T, B, D), got a PackedSequence")
        if not self.training or self.p == 0:
            return super().forward(input, hx)
        self._check_input(input, ("(T, B, D)",))
        if len(input) == 0:
            raise ValueError(
                f"input must have at least one time step, got shape {tuple(input.shape)}"
            )
        shape = (1, input.shape[1], self.hidden_size)
        if hx is None:
            hx = (input.new_zeros(shape), input.new_zeros(shape))
        h, c = (s[0] for s in self._check_state(hx, {"h": shape, "c": shape}))
        weights = self.weights("l0")
        locked = self._mask(h) if self.where == "h locked" else None
        hs = []
        for x_part in weights.project_input(input):
            read = h
            if locked is not None:
                read = h * locked
            elif self.where == "h each step":
                read = h * self._mask(h)
            elif self.where == "c each step":
                c = c * self._mask(c)
            candidate = self._dropped_tanh if self.where == "candidate" else torch.tanh
            (h, c), _ = lstm_step(x_part, (read, c), weights, candidate=candidate)
            hs.append(h)
        return torch.stack(hs), (h[None], c[None])

    def _dropped_tanh(self, z: Tensor) -> Tensor:
        return torch.tanh(z) * self._mask(z)

    def _mask(self, x: Tensor) -> Tensor:
        return mask_like(x, self.p, self.generator)

    def extra_repr(self) -> str:
        """Describe the layer as `torch.nn` does."""
        return f"{super().extra_repr()}, p={self.p}, where={self.where!r}"


def _probability(p: Any) -> float:
    if not isinstance(p, Real) or isinstance(p, bool):
        raise TypeError(f"p must be a number, got {type(p).__name__}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in [0, 1], got {p}")
    return float(p)
