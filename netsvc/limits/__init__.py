"""Limits: causes of refusals, networks, token buckets, admission, the datagram guard, the limits of a stream. Pure."""
