"""What a page in a real browser says, and how its forms and buttons are used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.portal.chromium import Chromium

ACCEPT = "button[name=answer][value=accept]"


def text(browser: Chromium) -> str:
    """Return what the page says as one line, or nothing while there is none."""
    said: str = browser.ask("document.body ? document.body.innerText : ''") or ""
    return " ".join(said.split())


def there(browser: Chromium, selector: str) -> bool:
    """Return whether the page has such an element by now."""
    return bool(browser.ask(f"Boolean(document.querySelector({json.dumps(selector)}))"))


def click(browser: Chromium, selector: str) -> None:
    """Click on an element, once the page has it."""
    until(lambda: there(browser, selector))
    browser.ask(f"document.querySelector({json.dumps(selector)}).click()")


def fill(browser: Chromium, **values: str) -> None:
    """Type into the form of the page and send it, once the page has all of its fields."""
    until(lambda: all(there(browser, f"[name={name}]") for name in values))
    for name, value in values.items():
        browser.ask(f"document.querySelector('[name={name}]').value = {json.dumps(value)}")
    first = next(iter(values))
    browser.ask(f"document.querySelector('[name={first}]').form.requestSubmit()")


def sign_in(browser: Chromium, user: str, once: str, password: str) -> None:
    """Sign in for the first time, where the accounts are, and agree to be told of."""
    fill(browser, login=user)
    fill(browser, password=once)
    fill(browser, password=password, confirmation=password)
    click(browser, ACCEPT)
