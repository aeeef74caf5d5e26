"""System calls of Linux that Python's standard library does not offer, by ctypes."""
