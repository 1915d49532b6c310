import shutil
import signal

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: the tests send it to themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the tensors are tiny and the workers share the cores: threads would only wait for each other


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    """Chromium, in which the tests of pages open them. It has a loop in the thread of the tests, so it does not stay
    for tests that know nothing of it."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """A function that opens an address in a window, and of which any error in the page fails the test."""
    wrong, contexts = [], []

    def opened(address, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def barriers():
    """A function: the serious faults that axe finds in a page for people who do not see it, or have no mouse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def found(page):
        violations = axe.run(page).response["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        return [(each["id"], each["nodes"][0]["html"][:80]) for each in serious]

    return found


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
