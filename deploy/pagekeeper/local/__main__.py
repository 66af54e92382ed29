"""`python -m pagekeeper.local`: a whole Pagekeeper on this machine, or one line that says what to install for it."""

import sys


def main() -> int:
    """Run, and answer the exit status: 0 when a signal ended it."""
    try:
        from pagekeeper.local import alone  # noqa: PLC0415 - a plain install has this module and not what it needs
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("pagekeeper"):
            raise
        sys.exit(f"pagekeeper: {missing.name} is not installed; a stack needs: pip install 'pagekeeper[local]'")
    return alone.main()


if __name__ == "__main__":
    sys.exit(main())
