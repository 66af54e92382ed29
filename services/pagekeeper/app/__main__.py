"""`pagekeeper`, and `python -m pagekeeper.app`: the command line, or one line that says what to install for it."""

import sys


def main() -> None:
    """Run the command line, which needs the extra `server`."""
    try:
        from pagekeeper.app import cli  # noqa: PLC0415 - a plain install has the script and not what the command needs
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("pagekeeper"):
            raise
        sys.exit(f"pagekeeper: {missing.name} is not installed; the command needs: pip install 'pagekeeper[server]'")
    cli.main()


if __name__ == "__main__":
    main()
