"""Data that needs no download: each module makes or reads one kind of sequence."""

from .counting import CountingBatch, a_n_b_n
from .memory import SequenceBatch, adding, first_symbol_recall, temporal_order
from .reber import ReberBatch, continual_embedded_reber, embedded_reber

__all__ = [
    "CountingBatch",
    "ReberBatch",
    "SequenceBatch",
    "a_n_b_n",
    "adding",
    "continual_embedded_reber",
    "embedded_reber",
    "first_symbol_recall",
    "temporal_order",
]
