"""`python -m adapters_xtl` is `xtl`."""

from adapters_xtl.cli import main

if __name__ == "__main__":
    main()
