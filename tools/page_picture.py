"""Makes the screenshot of the page for the README.

    cargo build --release --features serve --bin serve
    python3 -m venv venv && venv/bin/pip install -r tests/page/requirements.txt
    venv/bin/python tools/page_picture.py tests/data/voice.wav docs/page.png

Requires Chromium, its driver and a Korean font (Debian: chromium, chromium-driver, fonts-nanum).
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

SERVER = Path(__file__).resolve().parents[1] / "target/release/serve"
WIDTH, HEIGHT = 1180, 1700
PATIENCE = 60


def browser(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--lang=en-US",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(flag)
    chromium = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    size = dict(width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return chromium


def main(recording, picture):
    server = subprocess.Popen([SERVER, "--port", "0", "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            chromium = browser(folder)
            try:
                chromium.get(f"{address}/ui")
                chromium.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(Path(recording).resolve()))
                end = time.monotonic() + PATIENCE
                while not chromium.execute_script("return document.querySelectorAll('#downloads [data-format]').length"):
                    if time.monotonic() > end:
                        raise SystemExit("the page shows no answer")
                    time.sleep(0.1)
                # The results fade in.
                time.sleep(2)
                chromium.save_screenshot(picture)
            finally:
                chromium.quit()
    finally:
        server.terminate()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
