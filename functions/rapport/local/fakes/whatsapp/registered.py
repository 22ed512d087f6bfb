"""What Meta knows of the app, its numbers and its token: set over POST /_fake/registered.

As a stack starts, all is as it has to be, since webhooks do come.
"""

from __future__ import annotations

from pydantic import Field

from rapport.local.fakes.faults import Orders
from rapport.local.fakes.whatsapp.payloads import WABA_ID

APP_ID = "670843887433840"
APP_NAME = "Rapport's stand-in"


class RegisteredNumber(Orders):
    """A number of a WhatsApp Business account."""

    waba_id: str
    display_phone_number: str
    status: str = "CONNECTED"
    # another address for its webhooks than the app's
    callback_url: str | None = None


class Registered(Orders):
    """Everything that connecting an app at Meta sets, and what it needs."""

    # by phone_number_id: those of the seed
    numbers: dict[str, RegisteredNumber] = Field(
        default_factory=lambda: {
            "1003427786179738": RegisteredNumber(
                waba_id=WABA_ID, display_phone_number="+386 1 555 01 00"
            ),
            "1003427786179739": RegisteredNumber(
                waba_id="102290129340399", display_phone_number="+386 5 555 02 00"
            ),
        }
    )
    # whether the app hears of every WhatsApp Business account …
    is_subscribed: bool = True
    # … or else the accounts that it hears of
    subscribed_wabas: list[str] = Field(default_factory=list)
    # where the app's webhooks go; null is the functions' own address, and empty nowhere
    callback_url: str | None = None
    # null is all that there are
    fields: list[str] | None = None
    # the token's end in seconds since 1970; 0 is never
    token_expires_at: int = 0
    scopes: list[str] = Field(
        default_factory=lambda: ["whatsapp_business_management", "whatsapp_business_messaging"]
    )

    def hears_of(self, waba_id: str) -> bool:
        """Whether the app is told of an account's events."""
        return self.is_subscribed or waba_id in self.subscribed_wabas

    def numbers_of(self, waba_id: str) -> list[str]:
        """The numbers of a WhatsApp Business account, by phone_number_id."""
        return [id_ for id_, one in self.numbers.items() if one.waba_id == waba_id]
