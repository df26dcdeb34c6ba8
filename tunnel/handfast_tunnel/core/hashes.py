"""BLAKE2s and a comparison in constant time, as `hashlib` and `hmac` have them.

Those two load OpenSSL's hashes besides, which costs a start 3 ms.
"""

try:
    from _blake2 import blake2s
    from _operator import _compare_digest as compare_digest
except ImportError:  # where the interpreter keeps them elsewhere
    from hashlib import blake2s
    from hmac import compare_digest  # type: ignore[no-redef]

__all__ = ["blake2s", "compare_digest"]
