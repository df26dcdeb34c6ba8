"""`python -m handfast_tunnel` is `handfast-tunnel`."""

import sys

from .cli import main

sys.exit(main())
