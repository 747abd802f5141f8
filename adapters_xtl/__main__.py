"""`python -m adapters_xtl` and `xtl`: the command line, which a signal ends cleanly at any time."""

from __future__ import annotations

import sys

from adapters_xtl.base.signals import acknowledge_interrupt, interrupt_on_signals

__all__ = ["main"]


def main() -> None:
    """Runs the command line. Signals are seen to before anything else is imported."""
    interrupt_on_signals()
    try:
        from adapters_xtl import cli
    except KeyboardInterrupt:
        print("xtl: interrupted", file=sys.stderr)
        sys.exit(acknowledge_interrupt())
    cli.main()


if __name__ == "__main__":
    main()
