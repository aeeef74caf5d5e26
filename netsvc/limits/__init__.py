"""Who may do how much: networks, token buckets, admission, the datagram guard. Pure."""
