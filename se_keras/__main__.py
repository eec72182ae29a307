"""Run the command line as `python -m se_keras`."""

from se_keras.cli import command

command()
