"""A stack on this machine: its binaries, processes, ports and folder."""
