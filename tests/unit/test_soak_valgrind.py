"""What valgrind writes is read: errors of the compiled data plane count, an interpreter's do not."""

from __future__ import annotations

from tests.soak.valgrind import errors_in

WRITTEN = """<?xml version="1.0"?>
<valgrindoutput>
<error><kind>InvalidRead</kind><what>Invalid read of size 4</what>
  <stack><frame><obj>/usr/bin/python3</obj><fn>visit</fn></frame></stack>
</error>
<error><kind>UninitValue</kind><xwhat><text>Use of uninitialised value</text></xwhat>
  <stack>
    <frame><obj>/usr/lib/libc.so.6</obj><fn>memcpy</fn></frame>
    <frame><obj>/site-packages/handfast_native/handfast_native.abi3.so</obj><fn>open_batch</fn></frame>
  </stack>
</error>
<error><kind>UninitCondition</kind><what>Conditional jump</what>
  <stack>
    <frame><fn>__sanitizer_cov_trace_cmp8</fn></frame><frame><fn>handfast_native::fuzzing::writes</fn></frame>
  </stack>
</error>
<error><kind>InvalidWrite</kind><what>Invalid write of size 1</what>
  <stack><frame><fn>handfast_native::frames::join</fn></frame><frame><fn>main</fn></frame></stack>
</error>
</valgrindoutput>
"""


def test_errors_count_where_the_data_plane_is_among_the_callers() -> None:
    assert errors_in(WRITTEN) == [
        "UninitValue: Use of uninitialised value: memcpy <- open_batch",
        "InvalidWrite: Invalid write of size 1: handfast_native::frames::join <- main",
    ]
    assert errors_in("<valgrindoutput></valgrindoutput>") == []
