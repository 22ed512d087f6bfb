"""What runs on one machine: the embedded Supabase, the function host and the stand-ins; never
deployed.
"""
