"""Who may do how much: causes, networks, token buckets, admission, the datagram guard, limits of a stream. Pure."""
