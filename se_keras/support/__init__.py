"""Small helpers that the whole package shares."""
