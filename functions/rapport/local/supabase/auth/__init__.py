"""Supabase Auth (GoTrue), the part that portals use, on the tables of schema `auth`.

Served: sign-up with and without confirmation, by email address or phone number; passwords, refresh
tokens, recovery, one-time codes and magic links, also with PKCE; changes of password, address,
number and metadata; anonymous users, where settings allow them; logout by scope; and the
administrator's users, invitations and links. Settings are those of `[auth]` in
`supabase/config.toml`. Mails and SMS land in the local inbox (`inbox.py`).

Not served, and answered 501 with a sentence (`refusals.py`): second factors, passkeys, other
providers (OAuth), single sign-on, the OAuth server, wallets, identity linking and the audit log.
That is the whole scope, and it is frozen.
"""
