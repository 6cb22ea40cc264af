"""Variants of the LSTM over whole sequences, each made of `lstm_step`.

No gate equation stands here. A coupled gate is a change of the weights that `lstm_step` is given,
a peephole an addition to its input part, another squashing function its argument.

Shapes: T time steps, B batch size, D input size, H hidden size.
"""

from functools import partial

import torch
from torch import Tensor, nn

from lstm_lib.pytorch.cells import LSTMGates, Recurrence, State, Weights, check_bool, lstm_step
from lstm_lib.pytorch.init import check_gates, open_gate_
from lstm_lib.pytorch.layers import LSTM

CANDIDATES = {
    "tanh": torch.tanh,
    "identity": lambda z: z,
    "1997": lambda z: 2 * torch.tanh(z / 2),  # 4 sigmoid(z) - 2 without its cancellation at 0
}
OUTPUTS = {
    "tanh": torch.tanh,
    "identity": lambda c: c,
    "1997": lambda c: torch.tanh(c / 2),  # 2 sigmoid(c) - 1
}


class VariantLSTM(LSTM):
    """One LSTM layer, time first, with the changes that you name.

    Without options it is `LSTM` and `torch.nn.LSTM`. With all of them::

        i = sigmoid(z_i + p_i*c)    f = sigmoid(z_f + p_f*c), or f = 1 - i if coupled
        g = candidate(z_g)
        c' = f*c + i*g
        o = sigmoid(z_o + p_o*c')
        h' = o*output(c')

    Parameters
    ----------
    input_size, hidden_size : int
        D and H, at least 1.
    open_gates : str
        Letters of the gates held at 1, such as ``"f"`` or ``"io"``; see `open_gate_`. Their
        parameters exist, have zero gradient and do nothing.
    coupled : bool
        Whether ``f = 1 - i``. There is then no forget block, and only "o" can be held open.
    peepholes : bool
        Whether the gates see the cell state: i and f the old one, o the new one.
    candidate : {'tanh', 'identity', '1997'}
        Squashing of the candidate. '1997' is ``4 sigmoid(z) - 2``, in (-2, 2).
    output : {'tanh', 'identity', '1997'}
        Squashing of the cell state. '1997' is ``2 sigmoid(c) - 1 = tanh(c/2)``, in (-1, 1).
    device, dtype
        Of the parameters, as in `torch.nn`.

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (4H, D), gates i, f, g, o; coupled (3H, D), gates i, g, o
    weight_hh_l0 : Parameter, shape (4H, H) or (3H, H)
    bias_ih_l0, bias_hh_l0 : Parameter, shape (4H,) or (3H,)
    peephole_l0 : Parameter, shape (3H,), gates i, f, o; coupled (2H,), gates i, o
        With `peepholes`. Zeros at the start.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is not one of the values above.

    Notes
    -----
    Call it as `LSTM`: ``out, (h, c) = layer(x, (h, c))`` with x (T, B, D) and h, c (1, B, H);
    ``return_gates=True`` adds ``gates["l0"].f`` and so on. Weights and biases are drawn as those
    of `torch.nn.LSTM` with the same seed if they have the same shapes. `forget_bias_`, `chrono_`,
    `orthogonal_` and `keras_` work; they leave open gates open.

    In the names of Greff et al. (2017): NIG, NFG, NOG are `open_gates` "i", "f", "o"; NIAF and
    NOAF are `candidate` and `output` "identity"; CIFG is `coupled`. Their vanilla LSTM has
    `peepholes`, so their NP is ours without options. The cell of Hochreiter and Schmidhuber (1997)
    is ``open_gates="f", candidate="1997", output="1997"``.

    References
    ----------
    Hochreiter and Schmidhuber (1997); Gers, Schraudolph and Schmidhuber (2002) for the peepholes;
    Greff et al. (2017), "LSTM: A Search Space Odyssey".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        open_gates: str = "",
        coupled: bool = False,
        peepholes: bool = False,
        candidate: str = "tanh",
        output: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_bool("coupled", coupled)
        check_bool("peepholes", peepholes)
        for name, value, known in [
            ("candidate", candidate, CANDIDATES),
            ("output", output, OUTPUTS),
        ]:
            if not isinstance(value, str) or value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.blocks = "igo" if coupled else "ifgo"
        if open_gates != "":
            check_gates("open_gates", open_gates, self.blocks)
        self.open_gates = "".join(sorted(set(open_gates)))
        self.coupled = coupled
        self.candidate = candidate
        self.output = output
        self.peephole_l0 = None
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)
        if peepholes:
            zeros = torch.zeros((len(self.blocks) - 1) * hidden_size, device=device, dtype=dtype)
            self.peephole_l0 = nn.Parameter(zeros)

    hand_backward = False

    @property
    def recurrence(self) -> Recurrence:
        """The step function of this variant and what goes with it."""
        return Recurrence(self._step, len(self.blocks), ("h", "c"))

    def reset_parameters(self) -> None:
        """Draw the parameters as at the start; peepholes become 0 and open gates stay open."""
        super().reset_parameters()
        if self.peephole_l0 is not None:
            nn.init.zeros_(self.peephole_l0)
        if self.open_gates:
            open_gate_(self, self.open_gates)

    def weights(self, suffix: str) -> Weights:
        """Return the weights for `lstm_step`: coupled, the forget block is minus the input block.

        For ``sigmoid(-z) = 1 - sigmoid(z)``.
        """
        held = super().weights(suffix)
        if not self.coupled:
            return held
        rows = [p.chunk(3) for p in held if p is not None]
        return Weights(*(torch.cat([i, -i, g, o]) for i, g, o in rows))  # (cifg-f)

    def _step(self, x_part: Tensor, state: State, weights: Weights) -> tuple[State, LSTMGates]:
        step = partial(lstm_step, candidate=CANDIDATES[self.candidate], output=OUTPUTS[self.output])
        if self.peephole_l0 is None:
            return step(x_part, state, weights)
        *p_if, p_o = self.peephole_l0.split(self.hidden_size)
        p_i, p_f = p_if if len(p_if) == 2 else (p_if[0], -p_if[0])
        _, c = state
        nothing = torch.zeros_like(c)
        seen_i = p_i * c  # (peep-i)
        seen_f = p_f * c  # (peep-f)
        x_part = x_part + torch.cat([seen_i, seen_f, nothing, nothing], dim=-1)
        # The output gate looks at the new c, which does not depend on the output gate.
        (_, c), _ = step(x_part, state, weights)
        seen_o = p_o * c  # (peep-o)
        return step(x_part + torch.cat([nothing, nothing, nothing, seen_o], dim=-1), state, weights)

    def extra_repr(self) -> str:
        """Describe the layer and its options."""
        parts = [super().extra_repr()]
        for name in ("open_gates", "coupled", "candidate", "output"):
            value = getattr(self, name)
            if value not in ("", False, "tanh"):
                parts.append(f"{name}={value!r}")
        if self.peephole_l0 is not None:
            parts.append("peepholes=True")
        return ", ".join(parts)
