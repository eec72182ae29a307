"""Rules that rewrite a model: the same outputs from fewer or other layers."""
