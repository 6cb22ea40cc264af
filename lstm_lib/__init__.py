"""The library of the LSTM book: recurrent networks from the equations up.

`lstm_lib.scratch` and `lstm_lib.tasks` need only NumPy; `lstm_lib.pytorch` needs
torch. Nothing heavy is imported here, so that `import lstm_lib` is always cheap.
"""

__version__ = "0.1.0"
