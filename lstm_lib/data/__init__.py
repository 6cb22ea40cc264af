"""Trained weights that come with the package; read by `lstm_lib.char_model.load_char_model`."""
