"""python -m bench.compare; processes that make load import this too, and should not import more than they need."""

if __name__ == "__main__":
    from .cli import main

    main()
