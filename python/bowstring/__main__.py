"""The command `bowstring`: the same program as the Rust binary, in this process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from bowstring import _native


def main() -> None:
    """Runs the command line and exits with its code."""
    # Python's handler would only note Ctrl-C until the Rust code returns.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Its own name, by which it can start itself: the script beside this interpreter.
    program = Path(sys.executable).with_name("bowstring")
    sys.exit(_native.run_cli([str(program), *sys.argv[1:]]))


if __name__ == "__main__":
    main()
