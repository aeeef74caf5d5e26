"""A small client of Redis (RESP2) that keeps one connection. It needs the extra ``netsvc[redis]``."""
