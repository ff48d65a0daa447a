"""The command `statecast`; says what to install if only the client is."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from statecast.service import cli
    except ModuleNotFoundError as error:
        sys.exit(f"statecast: {error.name} is not installed; the server needs: pip install 'statecast[server]'")
    cli.main()


if __name__ == "__main__":
    main()
