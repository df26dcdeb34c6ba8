"""The demo (`python -m bench.demo`) and the benchmarks (`python -m bench`). Nothing here is in the wheel."""
