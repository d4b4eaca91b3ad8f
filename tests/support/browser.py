"""Drive a headless Chromium, as Debian has it: open pages, wait for what they show, read the console, take pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

try:  # it is of the integration tests' libraries, and the fast suite reads these files too
    from selenium import webdriver
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.remote.webelement import WebElement
    from selenium.webdriver.support.wait import WebDriverWait
except ModuleNotFoundError:
    webdriver = Keys = None

__all__ = ["PATIENCE", "Browser", "Keys", "chromium", "missing"]

#: Seconds after which a wait is taken for a hang. Nothing is asserted on it.
PATIENCE = 30.0
_BROWSER, _DRIVER = "chromium", "chromedriver"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root has none, and the pages are our own
    "--disable-dev-shm-usage",  # /dev/shm of a container is small
    "--disable-background-networking",  # nothing here asks the internet
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",  # so that a picture is the same on every machine
    "--font-render-hinting=none",
)

_T = TypeVar("_T")


def missing() -> str:
    """Return what this host lacks to run it, "" where it has all."""
    if webdriver is None:
        return "no selenium: make .venv/.libraries"
    lacking = [name for name in (_BROWSER, _DRIVER) if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)}: apt-get install chromium chromium-driver" if lacking else ""


class Browser:
    """One browser with one page.

    :ivar driver: selenium's, for what is not here.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.show()

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.driver.get(url)

    def find(self, css: str) -> WebElement:
        """Return the first element that a selector finds, once there is one."""
        return self.wait(lambda: self.driver.find_element(By.CSS_SELECTOR, css), f"no {css}")

    def all(self, css: str) -> list[WebElement]:
        """Return what a selector finds now."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str = "body") -> str:
        """Return what can be read there."""
        return self.find(css).text

    def wait(self, question: Callable[[], _T | None], why: str = "") -> _T:
        """Ask until the answer is true, over changes of the page, and return it. Raises ``TimeoutException``."""
        gone = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05, ignored_exceptions=gone)
        return waiting.until(lambda _: question(), why)

    def wait_for(self, text: str, css: str = "body") -> None:
        """Wait until a text can be read there."""
        self.wait(lambda: text in self.text(css), f"{text!r} does not appear in {css}")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Return what the console has had to complain of since it was last asked: errors, and what a policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def show(self, width: int = 1280, height: int = 800, *, dark: bool = False, scale: float = 1) -> None:
        """Be a screen of this size, in points, that wants light or dark.

        :param scale: pixels of a point.
        """
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wanted = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wanted, still]})

    def without_scripts(self, without: bool = True) -> None:
        """Run no script of the pages that are opened from now on, or run them again."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": without})

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the screen."""
        return bool(self.run("return document.documentElement.scrollWidth > window.innerWidth"))

    def picture(self, path: Path) -> None:
        """Write what is to be seen into a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run a browser for the time of a ``with``.

    :param folder: where its profile goes.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which(_BROWSER) or _BROWSER
    for argument in (*_ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Named, so that nothing is looked for, and fetched, by selenium itself.
    driver = webdriver.Chrome(options, Service(shutil.which(_DRIVER) or _DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
