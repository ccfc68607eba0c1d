"""All that the gate adds to the hub's addresses."""

from typing import Any

from carme_hub.authenticator import (
    account_pages,
    admin_pages,
    enrol_pages,
    pages,
    passkey_pages,
    sign_out,
    static,
    tokens,
)

handlers: list[tuple[Any, ...]] = [
    *pages.handlers,
    *sign_out.handlers,
    *tokens.handlers,
    *enrol_pages.handlers,
    *account_pages.handlers,
    *passkey_pages.handlers,
    *admin_pages.handlers,
    *static.handlers,
]
