"""The command `bowstring`: the same program as the Rust binary, in this process."""

from __future__ import annotations

import signal
import sys

from bowstring import _native


def main() -> None:
    """Runs the command line and exits with its code."""
    # Python's handler would only note Ctrl-C until the Rust code returns.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.run_cli(["bowstring", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
