"""Entry point of python -m bench.compare.

Processes that make load import this module too, so it imports nothing that they do not need.
"""

if __name__ == "__main__":
    from .cli import main

    main()
