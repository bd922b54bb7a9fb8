"""A real browser: Debian's Chromium without a window, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.servers.airflow import AirflowServer

# Root may not use the sandbox; the rest keeps the browser from asking the network for anything of its own.
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZE: Final = ViewportSize(width=1400, height=1400)
"""What a list does not show, Airflow's pages do not draw."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, and stop it at the end."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("there is no chromium on this machine: run `make browser`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def logged_in(browser: Browser, airflow: AirflowServer, username: str) -> Iterator[Page]:
    """Open Airflow as "admin" or "viewer" in a window of their own, through the login form."""
    with browser.new_context(base_url=airflow.url, viewport=_SIZE) as context:
        page = context.new_page()
        page.goto("/")
        page.locator("input[name=username]").fill(username)
        page.locator("input[name=password]").fill(airflow.passwords[username])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "login" not in url)
        yield page
