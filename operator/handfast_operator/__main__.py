"""`handfast-operator`: waits for the Lease, leads, and ends when it loses it.

`handfast-operator inject` puts tunnels into other people's pods; `handfast-operator snippet` prints what it
puts there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Final

from .settings import Settings, SettingsError

USAGE: Final = "usage: handfast-operator [inject | snippet < TUNNEL.yaml]"


def main() -> int:
    what = sys.argv[1:]
    if what not in ([], ["inject"], ["snippet"]):
        print(USAGE, file=sys.stderr)
        return 2
    logging.basicConfig(
        level=os.environ.get("LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Each call of kopf's and aiohttp's own: not for those who run it.
    for name in ("kopf", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"handfast-operator: {error}", file=sys.stderr)
        return 2
    return _MODES["".join(what)](settings)


def _lead(settings: Settings) -> int:
    from .run import run

    return asyncio.run(run(settings))


def _inject(settings: Settings) -> int:
    from .injection.server import run

    return asyncio.run(run(settings))


def _print(settings: Settings) -> int:
    from .injection.snippet import main as print_snippet

    return print_snippet(settings)


_MODES: Final = {"": _lead, "inject": _inject, "snippet": _print}


if __name__ == "__main__":
    sys.exit(main())
