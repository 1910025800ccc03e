"""JupyterLab in a real browser: `./run_all.sh lab`, then the five notebooks by Run > Run All Cells.

Needs headless Chromium with its driver (Debian: apt install chromium chromium-driver) and selenium; without them it is
skipped. The pages are kept as pictures in the folder that the variable SCREENSHOTS names.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from kagglekit.files import read_json
from kagglekit.running.lab import fill_in
from kagglekit.running.parameters import read_notebook
from kagglekit.samples import write_sample

ROOT = Path(__file__).parents[2]
RUNS = (  # notebook, what is typed into its parameter cell
    ("1_eda", {"n_folds": 2}),
    ("2_pretrain", {"run": "mlm", "steps": 6}),
    ("3_train", {"run": "tfidf", "backbone": "tfidf"}),
    ("3_train", {"run": "base", "backbone": "minilm", "start": "mlm", "max_length": 32, "epochs": 1.0}),
    ("4_ensemble", {"run": "blend"}),
    ("5_submit", {"run": "blend"}),
)
LIMIT = 240  # seconds that a notebook may take


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if not (driver and (shutil.which("chromium") or shutil.which("google-chrome"))):
        pytest.skip("NOT TESTED IN A BROWSER: there is no Chromium with its driver")
    selenium = pytest.importorskip("selenium.webdriver", reason="NOT TESTED IN A BROWSER: pip install selenium")
    options = selenium.ChromeOptions()
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1300,1400"):
        options.add_argument(f"--{option}")
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a running `./run_all.sh lab DIR`, and its work folder."""
    place = tmp_path_factory.mktemp("lab")
    data = write_sample("bbc", place / "data" / "articles", rows=160)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=t", "--allow-root"]
    with open(place / "terminal.txt", "w") as terminal:
        server = subprocess.Popen(
            [ROOT / "run_all.sh", "lab", data, *options], env={**os.environ, "RUNS": str(place / "runs")},
            stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
    work, give_up = place / "runs" / "articles", time.monotonic() + 60
    while server.poll() is None and time.monotonic() < give_up:
        with socket.socket() as asked:
            if not asked.connect_ex(("localhost", port)):
                break
        time.sleep(0.5)
    yield f"http://localhost:{port}", work
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def seen(browser, selector):
    return [one for one in browser.find_elements("css selector", selector) if one.is_displayed()]


def wait_for(browser, condition, what, limit=60):
    give_up = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < give_up, f"no {what} in {limit} s"
        time.sleep(0.3)
    return found


def click(browser, *path):
    """Open a menu of JupyterLab, and click an entry."""
    for level, words in enumerate(path):
        selector = ".lm-MenuBar-itemLabel" if level == 0 else ".lm-Menu-itemLabel"
        for _ in range(20):
            entries = [one for one in seen(browser, selector) if one.text == words]
            if entries:
                break
            time.sleep(0.2)
        entries[0].click()


def scroll(browser, how):
    """Move the open notebook; whether it was at that place already."""
    visible = "[...document.querySelectorAll('.jp-WindowedPanel-outer')].find(e => e.offsetParent)"
    return browser.execute_script(
        f"const e = {visible}; const before = e.scrollTop; {how}; return Math.abs(e.scrollTop - before) < 2"
    )


def picture(browser, name, pages=1):
    """Keep the page, and the pages below it, as pictures."""
    if not (folder := os.environ.get("SCREENSHOTS")):
        return
    for page in range(pages):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(f"{folder}/{name}.{page:02}.png")
        at_end = scroll(browser, "e.scrollTop += e.clientHeight - 60")
        time.sleep(0.4)
        if at_end:
            break


def errors_of(cells):
    return [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]


def run_all_cells(browser, lab, number, name, values):
    """Run all cells of a notebook as a user does: what the progress showed, and the saved notebook."""
    address, work = lab
    copy = work / "notebooks" / "lab" / f"{name}.ipynb"
    content = read_notebook(copy)
    fill_in(content, values)
    copy.write_text(json.dumps(content), encoding="utf-8")
    opened = browser.current_url if number == 0 else f"{address}/lab/tree/notebooks/lab/{name}.ipynb?reset"
    browser.get(opened)
    wait_for(browser, lambda: seen(browser, ".jp-Notebook-ExecutionIndicator[data-status=idle]"), "kernel")
    click(browser, "Run", "Run All Cells")
    shown, progress, began = set(), False, time.monotonic()
    while time.monotonic() - began < LIMIT:
        if seen(browser, ".jp-Notebook-ExecutionIndicator[data-status=idle]") and time.monotonic() - began > 5:
            click(browser, "File", "Save Notebook")
            time.sleep(1)
            code = [cell for cell in read_notebook(copy)["cells"] if cell["cell_type"] == "code"]
            if all(cell["execution_count"] for cell in code) or errors_of(code):
                break
        outputs = [one.text for one in seen(browser, ".jp-OutputArea-output")]
        bars = [text for text in outputs if re.search(r"\d+/\d+", text)]
        shown |= set(bars)
        if bars and not progress:
            progress = True
            picture(browser, f"{number}_{name}.progress")
        time.sleep(0.5)
    scroll(browser, "e.scrollTop = 0")
    time.sleep(0.5)
    picture(browser, f"{number}_{name}", pages=40)
    return shown, read_notebook(copy)


def test_a_newcomer_comes_from_the_command_to_a_submission_in_the_browser(browser, lab):
    address, work = lab
    browser.get(f"{address}/?token=t")
    wait_for(browser, lambda: seen(browser, ".jp-NotebookPanel"), "notebook")
    assert browser.current_url.endswith("/lab/tree/notebooks/lab/1_eda.ipynb")  # open, without a click
    for number, (name, values) in enumerate(RUNS):
        shown, saved = run_all_cells(browser, lab, number, name, values)
        code = [cell for cell in saved["cells"] if cell["cell_type"] == "code"]
        assert errors_of(code) == [] and all(cell["execution_count"] for cell in code)
        kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
        assert kinds >= ({"text/html"} if name == "5_submit" else {"text/html", "image/png"}), name
        assert shown or values.get("run") not in ("mlm", "base"), "no progress was seen"
    assert read_json(work / "submission.json")["run"] == "blend"
    assert [path.name for path in (work / "notebooks").iterdir()] == ["lab"]
