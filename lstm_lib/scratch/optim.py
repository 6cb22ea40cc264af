"""Gradient clipping and optimisers that update live parameter arrays in place."""

import numpy as np

from .functions import check_positive


def clip_by_global_norm(grads, max_norm):
    """Scale all gradients by min(1, max_norm / norm), in place (Pascanu et al., 2013).

    norm = √(Σ over all arrays and entries of g²): one norm for all parameters, so the
    direction of the update does not change.

    Parameters
    ----------
    grads : mapping of str to array
    max_norm : float, above 0

    Returns
    -------
    norm : float, before clipping. If it is not finite the gradients are left alone.

    Raises
    ------
    TypeError, ValueError
        If `max_norm` is not a number above 0.
    """
    check_positive(max_norm, "max_norm")
    norm = float(np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads.values())))
    if np.isfinite(norm) and norm > max_norm:
        for g in grads.values():
            g *= max_norm / norm
    return norm


class _Optimiser:
    """Checks shared by the optimisers, and their state as flat arrays."""

    _slots: tuple[str, ...] = ()

    def __init__(self, params, lr):
        check_positive(lr, "lr")
        self.params = dict(params)
        if not self.params:
            raise ValueError("params: expected at least one array, got none")
        for name, p in self.params.items():
            if not (isinstance(p, np.ndarray) and np.issubdtype(p.dtype, np.floating)):
                got = p.dtype if isinstance(p, np.ndarray) else type(p).__name__
                raise TypeError(f"params[{name!r}]: expected a floating array, got {got}")
        self.lr = lr
        self.steps = 0
        self.slots = {
            slot: {name: np.zeros_like(p) for name, p in self.params.items()}
            for slot in self._slots
        }

    def step(self, grads):
        """Update every parameter in place.

        Parameters
        ----------
        grads : mapping with the same keys and shapes as the parameters

        Raises
        ------
        ValueError
            If keys or shapes differ; nothing is updated then.
        """
        if set(grads) != set(self.params):
            raise ValueError(f"grads: expected the keys {sorted(self.params)}, got {sorted(grads)}")
        for name, p in self.params.items():
            shape = np.shape(grads[name])
            if shape != p.shape:
                raise ValueError(f"grads[{name!r}]: expected shape {p.shape}, got {shape}")
        self.steps += 1
        for name, p in self.params.items():
            self._update(name, p, np.asarray(grads[name]))

    def _update(self, name, p, g):
        raise NotImplementedError

    def state_dict(self):
        """Return copies of all that a resumed run needs: `steps` and the `slot.name` arrays."""
        arrays = {
            f"{slot}.{name}": a.copy() for slot, of in self.slots.items() for name, a in of.items()
        }
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned; ValueError if keys or shapes differ."""
        expected = self.state_dict()
        if set(state) != set(expected):
            raise ValueError(f"state: expected the keys {sorted(expected)}, got {sorted(state)}")
        for key, array in expected.items():
            if np.shape(state[key]) != array.shape:
                raise ValueError(
                    f"state[{key!r}]: expected shape {array.shape}, got {np.shape(state[key])}"
                )
        self.steps = int(state["steps"])
        for slot, of in self.slots.items():
            for name, a in of.items():
                a[...] = state[f"{slot}.{name}"]


class SGD(_Optimiser):
    """Stochastic gradient descent: v ← momentum v + g, p ← p - lr v.

    Parameters
    ----------
    params : mapping of str to array, updated in place
    lr : float, above 0
    momentum : float in [0, 1)

    Raises
    ------
    TypeError
        If `lr` is not a number, or a parameter is not a floating array.
    ValueError
        If a number is out of range or there is no parameter.
    """

    _slots = ("velocity",)

    def __init__(self, params, lr, momentum=0.0):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        super().__init__(params, lr)
        self.momentum = momentum

    def _update(self, name, p, g):
        v = self.slots["velocity"][name]
        v *= self.momentum
        v += g
        p -= self.lr * v


class Adam(_Optimiser):
    """Adam (Kingma & Ba, 2015).

    m ← β1 m + (1 - β1) g          v ← β2 v + (1 - β2) g²
    p ← p - lr m̂ / (√v̂ + ε)       m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t)

    Parameters
    ----------
    params : mapping of str to array, updated in place
    lr : float, above 0
    betas : pair of floats in [0, 1)
    eps : float, above 0

    Raises
    ------
    TypeError
        If `lr` or `eps` is not a number, or a parameter is not a floating array.
    ValueError
        If a number is out of range or there is no parameter.
    """

    _slots = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {betas!r}")
        check_positive(eps, "eps")
        super().__init__(params, lr)
        self.betas, self.eps = tuple(betas), eps

    def _update(self, name, p, g):
        b1, b2 = self.betas
        m, v = self.slots["m"][name], self.slots["v"][name]
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g**2
        m_hat = m / (1 - b1**self.steps)
        v_hat = v / (1 - b2**self.steps)
        p -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
