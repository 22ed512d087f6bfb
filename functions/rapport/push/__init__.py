"""Web Push: notifications on devices that are not looking at a page."""
