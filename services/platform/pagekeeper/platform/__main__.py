"""`python -m pagekeeper.platform`: the command line without an installed script."""

from pagekeeper.platform.cli import main

main()
