"""The embedded Supabase: gateway, Auth, Realtime, and the state of a hosted project before
migrations.
"""
