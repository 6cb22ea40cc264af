"""Data that needs no download: each module makes or reads one kind of sequence."""

from .memory import SequenceBatch, adding, first_symbol_recall, temporal_order
from .reber import ReberBatch, continual_embedded_reber, embedded_reber

__all__ = [
    "ReberBatch",
    "SequenceBatch",
    "adding",
    "continual_embedded_reber",
    "embedded_reber",
    "first_symbol_recall",
    "temporal_order",
]
