"""The measurements for the tables of README and `docs/`: what SE costs, and whether it helps."""
