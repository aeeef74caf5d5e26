"""Measures a network: schedule, payload, verdicts and statistics of probes. All times are integer nanoseconds."""
