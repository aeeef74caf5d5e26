"""Chat rooms that need nothing but netcat: names, messages and rooms (pure), the server's front end, a client."""
