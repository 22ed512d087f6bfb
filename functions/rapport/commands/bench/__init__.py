"""The measurements of `rapport bench`. Compare only figures of the same run."""
