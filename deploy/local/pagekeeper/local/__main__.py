"""`python -m pagekeeper.local run`: what `make run` runs."""

import os
import sys

from pagekeeper.local.run import main

sys.exit(main(sys.argv[1:], os.environ))
