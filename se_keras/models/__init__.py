"""Networks without weights: the table of variants, shared parts, and one module per family."""
