"""Weights of others: where they are, how they are laid, and their way into a model and back."""
