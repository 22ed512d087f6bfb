"""`rapport package`: the functions' zip, and the templates that deploy it."""
