"""Calls to AWS: signed with HMAC over httpx, since boto3 alone takes longer to load than a function
may take to start.
"""
