"""The servers that are measured. Each listens on a free port of 127.0.0.1 and prints the port."""
