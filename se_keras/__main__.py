"""Run the command line as `python -m se_keras`."""

import sys

from se_keras.cli import main

sys.exit(main())
