"""Echo (RFC 862) and acknowledgements on streams: server and client."""
