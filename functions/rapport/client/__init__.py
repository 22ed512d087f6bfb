"""The live client for Python: it follows customers, jobs, invoices, messages and contacts as they
change.
"""
