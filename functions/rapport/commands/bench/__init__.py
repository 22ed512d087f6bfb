"""What `rapport bench` measures; figures of one run are compared with each other."""
