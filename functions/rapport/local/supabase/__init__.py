"""The embedded Supabase: gateway, Auth, Realtime, and a hosted project before migrations."""
