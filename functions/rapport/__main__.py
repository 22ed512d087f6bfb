"""`rapport`, which is `python -m rapport`: the command line."""

import sys


def main() -> None:
    """Runs a command. Without the packages that commands need, says how to get them."""
    try:
        from rapport.commands import main
    except ModuleNotFoundError as error:
        sys.exit(
            f"rapport: the commands need packages that are not here ({error.name})."
            " Install them: pip install 'rapport-live[local]'"
        )
    main()


if __name__ == "__main__":
    main()
