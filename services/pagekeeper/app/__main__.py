"""`python -m pagekeeper.app`: the command line without an installed script."""

from pagekeeper.app.cli import main

main()
