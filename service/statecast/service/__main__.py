"""The command `statecast`; says what to install if only the client is."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from statecast.service.cli import main as cli

        cli.main()
    except KeyboardInterrupt:  # while modules are imported; later, the commands handle it
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("statecast"):
            raise
        extra = "cli" if {"health", "sessions", "models"} & set(sys.argv[1:2]) else "server"
        sys.exit(f"statecast: {error.name} is not installed; it needs the extra {extra!r} (docs/installation.md)")


if __name__ == "__main__":
    main()
