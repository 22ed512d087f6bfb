"""Rapport: one truth about a customer, live in every place that shows it."""
