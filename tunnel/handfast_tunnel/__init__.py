"""A userspace WireGuard whose clients survive its restarts."""

__version__ = "0.1.0"
