"""Networks without weights: the table of variants, their shared parts, one file a family."""
