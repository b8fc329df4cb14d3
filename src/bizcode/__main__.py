"""`python -m bizcode` is the `bizcode` command."""

from .cli import main

if __name__ == "__main__":
    main()
