"""Handfast and other implementations, on one wire."""
