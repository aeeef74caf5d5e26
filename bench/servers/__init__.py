"""The servers that are compared. Each prints the port it serves on, a free one of 127.0.0.1."""
