"""`handfast-operator`: waits for the Lease, leads, and ends when it loses it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from .settings import Settings, SettingsError


def main() -> int:
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
    from .run import run

    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
