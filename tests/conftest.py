from __future__ import annotations

from hypothesis import settings

# On a shared machine any example can take long; its time says nothing.
settings.register_profile("handfast", deadline=None)
settings.load_profile("handfast")
