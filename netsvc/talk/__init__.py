"""A conversation between two people, over a stream or in datagrams. Either side may be the one that listens."""
