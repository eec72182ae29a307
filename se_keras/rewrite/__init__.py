"""Rewrite a model by rules: the same outputs from fewer or other layers."""
