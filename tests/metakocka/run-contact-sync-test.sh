#!/bin/sh
# The smoke test of the contact sync; AUTH_TOKEN and CONTACT_ID have to be set.
set -eu
: "${AUTH_TOKEN:?an access token of an owner or admin}"
: "${CONTACT_ID:?the id of a contact that may be sent}"
cd "$(dirname "$0")/../.."
exec uv run --no-sync pytest -n 0 -rs -m smoke tests/smoke/test_contact_sync.py "$@"
