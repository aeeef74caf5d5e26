"""The small services of the RFCs: discard (863), chargen (864), daytime (867) and time (868)."""
