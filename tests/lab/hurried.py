"""Handfast with other constants, so that no test waits two minutes for what a rule says of two minutes.

    python hurried.py NAME=VALUE ... -- ARGUMENTS        as handfast-tunnel ARGUMENTS

The names are those of `core.constants`. Only the numbers differ, not what is done with them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence

from handfast_tunnel.core import constants


def main(arguments: Sequence[str]) -> int:
    end = list(arguments).index("--")
    for assignment in arguments[:end]:
        name, _, value = assignment.partition("=")
        if not hasattr(constants, name):
            raise SystemExit(f"hurried: there is no constant {name}")
        setattr(constants, name, ast.literal_eval(value))
    from handfast_tunnel import cli

    return cli.main(arguments[end + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
