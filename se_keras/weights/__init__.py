"""Published weights and files of weights: find, read and convert them in both directions."""
