"""What comes with the package: trained weights, read by `lstm_lib.char_model.load_char_model`,
stored results, read by `lstm_lib.results.load`, and the registry of `lstm_lib.datasets`."""
