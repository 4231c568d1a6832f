"""Pages in a browser that must neither fail nor ask anything of any network."""

from contextlib import contextmanager

WIDTHS = {"phone": 375, "desktop": 1280}
# Patterns, mazes and drawings are random in the page: a test sees the same ones every time.
SAME_CHANCE = "{ let state = 1; Math.random = () => (state = (state * 48271) % 2147483647) / 2147483647; }"


@contextmanager
def opened(browser, file, width):
    """A page at a width; at the end there must have been no error and no request."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.add_init_script(SAME_CHANCE)
    troubles, requests = [], []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(file.as_uri())
    yield page
    assert troubles == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    page.close()
