"""How the tests of this folder compare tensors and modules."""

import torch
from torch import Tensor

DOUBLE = torch.float64


def relative_error(a: Tensor, n: Tensor) -> float:
    """Return ``max|a - n| / max(max|a|, max|n|, 1e-8)``, or infinity if the shapes differ."""
    if a.shape != n.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    scale = max(a.abs().max().item(), n.abs().max().item(), 1e-8)
    return ((a - n).abs().max() / scale).item()


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], bound: float) -> None:
    """Hold every tensor of `ours` to the one of `theirs` with the same name."""
    assert list(ours) == list(theirs)
    errors = {name: relative_error(ours[name], theirs[name]) for name in ours}
    assert all(error <= bound for error in errors.values()), errors  # fails for NaN too


def random(*shape: int, seed: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    """Return standard normal numbers that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def assert_same_draws(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Hold two modules to the same parameters: names, order, shapes and every bit."""
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    assert [name for name, _ in ours.named_parameters()] == list(a)
    for name in a:
        assert torch.equal(a[name], b[name]), name
