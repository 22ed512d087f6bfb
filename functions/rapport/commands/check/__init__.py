"""The command `rapport check`: walks a whole deployment and says what is wrong, with the remedy."""
