"""Chat rooms that need nothing but netcat."""
