"""Figures for the alarms of the people who run a deployment."""

from __future__ import annotations

from tests.sql.outbound import backend, conversation, post
from tests.world import ALPINE, World


def test_figures_are_of_all_accounts_and_name_nobody(world: World) -> None:
    assert backend(world, "figures()") == {
        "oldest_outbound_seconds": 0,
        "stopped_numbers": 0,
        "failing_syncs": 0,
    }
    post(world, "andrej", conversation(world), "hello")
    world.owner.execute("update public.messages set created_at = now() - interval '700 seconds'")
    world.owner.execute(
        "insert into public.metakocka_connections (account_id, company_id, paused_until)"
        " values (%s, '16', now() + interval '1 hour')",
        [ALPINE],
    )
    backend(world, "sweep_health()")
    told = backend(world, "figures()")
    assert told["oldest_outbound_seconds"] == 700
    assert (told["stopped_numbers"], told["failing_syncs"]) == (0, 1)

    # what waits for a stopped number is told with the number
    world.owner.execute(
        "update public.whatsapp_channels set stopped_at = now(), stopped_reason = 'token'"
        " where account_id = %s",
        [ALPINE],
    )
    told = backend(world, "figures()")
    assert (told["oldest_outbound_seconds"], told["stopped_numbers"]) == (0, 1)
