"""HTTP and WebSocket for a service that is used from a browser. It needs the extra ``web``."""
