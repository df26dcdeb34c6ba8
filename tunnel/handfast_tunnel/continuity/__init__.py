"""What outlives a process: send ceilings, highest received counters, timestamp marks."""
