"""The ``privsweep-matrix`` command: which settings, attacks, defences and models go together, and why others do not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from privsweep.cli.one_line import one_line
from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable

_DESCRIPTION = """\
Tells which settings, attacks, defences and models go together, and why others do not. It asks the checks that every
run passes; choices of your own (--config-dir) are asked, too.

  privsweep-matrix                        in the terminal
  privsweep-matrix markdown=matrix.md     and as a file
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 2 the request was refused."""
    parser = argparse.ArgumentParser(
        "privsweep-matrix",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="markdown=FILE")
    parser.add_argument("--config-dir", help="your own configuration, searched besides the built-in one")
    try:
        given = one_line(parser, "privsweep-matrix").parse_intermixed_args(argv)
        for word in given.words:
            if not word.startswith("markdown=") or word == "markdown=":
                raise UserError(f"{word}: is not used here; there is markdown=FILE")
        from privsweep.cli.grids import show, write  # here, for help need not wait for PyTorch
        from privsweep.run.matrix import matrix

        found = matrix(given.config_dir)
        show(found)
        for word in given.words:
            write(found, Path(word.partition("=")[2]).expanduser())
    except UserError as error:
        for line in str(error).splitlines():
            print(printable(line), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
