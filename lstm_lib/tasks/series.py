"""A series whose forecast takes a memory that is not linear: orders, bells and deliveries.

    x_t = 0.8 x_{t-1} + e_t,   e_t ~ N(0, 0.1²)                                  the background
    y_t = x_t + a   at an order:     |a| ~ U[1, 2], of either sign
    y_t = x_t + 4   at its bell:     `waits` steps later, drawn anew for each order
    y_t = x_t + a   at the delivery: the step after the bell
    y_t = x_t       at all other steps

One order follows another: the next comes a number of steps after the delivery that is geometric
with mean 10. Orders and bells surprise everybody. What can be forecast is the background, which
is linear, and the delivery: its amount stands in the series, `waits` + 1 steps back, and counts at
the step after a bell and nowhere else. A sum with fixed weights cannot switch, and a window that
is shorter than the wait has lost the amount.
"""

from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size

DECAY, NOISE = 0.8, 0.1
BELL = 4.0
AMOUNTS = (1.0, 2.0)
GAP = 10


class Orders(NamedTuple):
    """A series of `orders`.

    Attributes
    ----------
    values : ndarray, shape (T,)
        y, the series: all that a forecaster sees.
    known : ndarray, shape (T,)
        Forecast of y_t by one who knows x_{t-1}, and at deliveries a: no forecast one step ahead
        has a lower expected error there. Its error is e_t, with a mean absolute value of
        0.1 sqrt(2 / π) = 0.080.
    deliveries : ndarray of bool, shape (T,)
    """

    values: np.ndarray
    known: np.ndarray
    deliveries: np.ndarray


def orders(rng, length, waits=(8, 32)):
    """Draw a series of orders, bells and deliveries.

    Parameters
    ----------
    rng : numpy.random.Generator
    length : int
        T.
    waits : (int, int)
        Fewest and most steps from an order to its bell, uniform between them; at least 1.

    Returns
    -------
    Orders

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.
    """
    check_rng(rng)
    length = check_size(length, "length")
    shortest, longest = (check_size(wait, "waits") for wait in waits)
    if longest < shortest:
        raise ValueError(f"waits: expected the fewest steps first, got {waits}")
    noise = rng.normal(0, NOISE, length)
    background = np.zeros(length + 1)
    for t in range(length):
        background[t + 1] = DECAY * background[t] + noise[t]
    values, known = background[1:].copy(), DECAY * background[:-1]
    deliveries = np.zeros(length, bool)
    delivery = -1
    while True:
        order = delivery + int(rng.geometric(1 / GAP))
        bell = order + int(rng.integers(shortest, longest + 1))
        amount = rng.uniform(*AMOUNTS) * rng.choice([-1, 1])
        delivery = bell + 1
        if delivery >= length:  # what would not be delivered is not ordered
            return Orders(values, known, deliveries)
        values[[order, delivery]] += amount
        values[bell] += BELL
        known[delivery] += amount
        deliveries[delivery] = True
