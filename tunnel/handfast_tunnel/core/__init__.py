"""The protocol, sans-IO: no sockets, no clock, no asyncio. Time is an argument, `now`.

`now` is seconds of CLOCK_BOOTTIME as a float. Wall-clock time, which only TAI64N stamps need,
is `now + device.wall_offset`.
"""
