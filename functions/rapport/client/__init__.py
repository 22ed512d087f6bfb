"""For clients in Python: what they follow, live, and contacts in the face that they ask for."""
