"""How long hostile input is made: a little in every run, or for a quarter of an hour."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

# inputs of a target with the share 1
EXAMPLES = 30
LONG_EXAMPLES = 700
LONG = "long"

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def register() -> None:
    """Makes `--hypothesis-profile=long` known."""
    settings.register_profile(LONG, max_examples=LONG_EXAMPLES)


def inputs(share: float) -> settings:
    """How many inputs a target gets: the same ones in each run, new ones in a long run."""
    is_long = settings.get_current_profile_name() == LONG
    return settings(
        max_examples=max(1, round(share * (LONG_EXAMPLES if is_long else EXAMPLES))),
        deadline=None,
        database=None,
        derandomize=not is_long,
        suppress_health_check=_QUIET,
        # a shorter input is worth its time only where it is looked for
        phases=[Phase.generate, *([Phase.shrink] if is_long else [])],
    )
