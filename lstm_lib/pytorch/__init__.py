"""The recurrent equations of the book as PyTorch modules, and their initialisers.

`LSTM`, `GRU`, `RNN` and `LSTMCell`, `GRUCell`, `RNNCell` are drop-in replacements for the classes
of the same name in `torch.nn`: same constructor, same parameters, same results. They are written
as Python loops that can be read and changed, and can return every gate of every step. On a CPU the
layers run fused, with the hand-derived backward pass of `lstm_lib.scratch`, wherever that is
possible. `VariantLSTM` is an LSTM with parts taken out or added. `LanguageModel`,
`SequenceClassifier`, `SequenceTagger`, `EncoderDecoder` and `Captioner` are models made of them;
`lstm_lib.pytorch.decoding` gets texts out of them.
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":  # torch is there and something that it needs is not
        raise
    raise ModuleNotFoundError(
        "lstm_lib.pytorch needs PyTorch, which is not installed. "
        "Install it with: pip install 'lstm-lib[torch]'",
        name="torch",
    ) from error

from lstm_lib.pytorch.attention import BahdanauAttention, LuongAttention
from lstm_lib.pytorch.captioner import Captioner, SlotClassifier
from lstm_lib.pytorch.cells import (
    GRUCell,
    GRUGates,
    LSTMCell,
    LSTMGates,
    RNNCell,
    RNNGates,
    Weights,
    gru_step,
    lstm_step,
    rnn_step,
)
from lstm_lib.pytorch.classifier import SequenceClassifier
from lstm_lib.pytorch.crf import CRF
from lstm_lib.pytorch.dropout import DropoutLSTM, LockedDropout, WeightDrop
from lstm_lib.pytorch.forecaster import Forecaster, pinball_loss, train_on_windows
from lstm_lib.pytorch.init import (
    chrono_,
    forget_bias_,
    identity_,
    keras_,
    open_gate_,
    orthogonal_,
    seeded,
)
from lstm_lib.pytorch.language_model import LanguageModel
from lstm_lib.pytorch.layers import GRU, LSTM, RNN
from lstm_lib.pytorch.pointer import PointerGenerator
from lstm_lib.pytorch.seq2seq import EncoderDecoder
from lstm_lib.pytorch.tagger import SequenceTagger
from lstm_lib.pytorch.training import Trainer
from lstm_lib.pytorch.variants import VariantLSTM

__all__ = [
    "BahdanauAttention",
    "CRF",
    "Captioner",
    "DropoutLSTM",
    "EncoderDecoder",
    "Forecaster",
    "GRU",
    "GRUCell",
    "GRUGates",
    "LSTM",
    "LSTMCell",
    "LSTMGates",
    "LanguageModel",
    "LockedDropout",
    "LuongAttention",
    "PointerGenerator",
    "RNN",
    "RNNCell",
    "RNNGates",
    "SequenceClassifier",
    "SequenceTagger",
    "SlotClassifier",
    "Trainer",
    "VariantLSTM",
    "WeightDrop",
    "Weights",
    "chrono_",
    "forget_bias_",
    "gru_step",
    "identity_",
    "keras_",
    "lstm_step",
    "open_gate_",
    "orthogonal_",
    "pinball_loss",
    "rnn_step",
    "seeded",
    "train_on_windows",
]
