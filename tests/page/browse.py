"""Tests the page at /ui in headless Chromium.

    python browse.py http://127.0.0.1:PORT voice.wav FOLDER

voice.wav is the uploaded file and the microphone's input; FOLDER receives the downloads. The server must
have been started with --max-body 1 --max-seconds 60. A failed check raises an exception.
"""

import json
import sys
import time
import urllib.request
import uuid
import wave
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

BASE, VOICE, FOLDER = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
DOWNLOADS = FOLDER / "downloads"
# Timeout of any step in seconds, after which a test fails instead of hanging on a busy machine.
PATIENCE = 120
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--lang=en-US",
    "--window-size=1280,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    f"--use-file-for-fake-audio-capture={VOICE}",
    f"--user-data-dir={FOLDER / 'profile'}",
]


def start():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": "en-US,en"})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(DOWNLOADS)}
    )
    return browser


def equal(a, b, what):
    if a != b:
        raise AssertionError(f"{what}: {a!r} is not {b!r}")


def post(content, name, form, profile=None):
    """The API's answer as bytes."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="response_format"\r\n\r\n{form}\r\n'
    if profile:
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="profile"\r\n\r\n{profile}\r\n'
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    request = urllib.request.Request(
        f"{BASE}/v1/audio/emotion",
        head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=PATIENCE).read()


class Page:
    def __init__(self, browser):
        self.browser = browser
        self.requests = []

    def js(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def get(self, name):
        return self.browser.find_element(By.ID, name)

    def wait(self, code, what):
        end = time.monotonic() + PATIENCE
        while not (found := self.js(f"return {code}")):
            if time.monotonic() > end:
                said = self.get("status").text, self.get("error").text
                raise AssertionError(f"waited in vain until {what}: {said}")
            time.sleep(0.05)
        return found

    def choose(self, path):
        self.get("file").send_keys(str(path))

    def answered(self, name):
        self.wait(
            "!document.body.classList.contains('busy') && !document.getElementById('result').hidden"
            f" && document.getElementById('hero-file').textContent.startsWith({json.dumps(name)})",
            f"{name} is answered",
        )

    def refused(self):
        self.wait("!document.getElementById('error').hidden", "an error is shown")
        return self.get("error").text

    def seen(self):
        """Returns all requests since the last call, as (method, address)."""
        new = []
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                request = message["params"]["request"]
                new.append((request["method"], request["url"]))
            if message["method"] == "Network.webSocketCreated":
                new.append(("WEBSOCKET", message["params"]["url"]))
        self.requests += new
        return new

    def shows(self, record):
        """Checks that the displayed values equal those of the record, to the last bit."""
        bars = self.js(
            "return [...document.querySelectorAll('#bars .bar, #gender-bars .bar')].map(b =>"
            " [b.dataset.name, b.querySelector('data').value, b.querySelector('data').textContent])"
        )
        emotions, genders = record["emotions"], record["gender"]
        equal(len(bars), len(emotions) + len(genders), "bars")
        drawn = record["dropout"]["mode"] == "draws"
        for name, value, text in bars:
            mean = emotions[name]["mean"] if name in emotions else genders[name]
            equal(float(value), mean, name)
            wanted = f"{mean * 100:.1f}%"
            if drawn and name in emotions and emotions[name]["std"] > 0:
                wanted += f" ± {emotions[name]['std'] * 100:.1f}"
            equal(text, wanted, name)
        whiskers = self.js("return document.querySelectorAll('#bars .whisker').length")
        equal(whiskers, sum(e["std"] > 0 for e in emotions.values()), "error bars")
        means = [float(v) for n, v, _ in bars if n in emotions]
        equal(means, sorted(means, reverse=True), "order")
        equal(bars[0][0], record["strongest"], "strongest")
        equal(float(self.get("age-value").get_attribute("value")), record["age"]["years"], "age")
        rows = self.js("return document.querySelectorAll('#timeline-table tbody tr').length")
        equal(rows, len(record["timeline"]), "windows in the table")
        equal(self.get("notice").text, record["notice"], "notice")
        warned = self.js("return [...document.querySelectorAll('#warnings p')].map(p => p.textContent)")
        equal(warned, [w["message"] for w in record["warnings"]], "warnings")

    def pictures(self):
        """Checks that every chart has content and a text alternative."""
        for name in ["timeline", "wave", "mel", "attention"]:
            colours, words = self.js(
                "const c = document.getElementById(arguments[0]);"
                "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
                "return [new Set(new Uint32Array(d.buffer)).size, c.getAttribute('aria-label')]",
                name,
            )
            if colours < 4 or not words:
                raise AssertionError(f"{name}: {colours} colours, described as {words!r}")


def download(page, form):
    """Returns the bytes of one download. Chromium reserves the file's name with an empty file, which the
    complete one replaces."""
    before = set(DOWNLOADS.iterdir())
    page.js("document.querySelector(`[data-format=\"${arguments[0]}\"]`).click()", form)
    end = time.monotonic() + PATIENCE
    while True:
        new = [p for p in set(DOWNLOADS.iterdir()) - before if p.suffix != ".crdownload" and not p.name.startswith(".")]
        content = new[0].read_bytes() if new else b""
        if content:
            return content
        if time.monotonic() > end:
            raise AssertionError(f"{form} was not downloaded")
        time.sleep(0.05)


def a_chosen_file_is_shown_as_the_api_answers(page):
    page.choose(VOICE)
    page.answered(VOICE.name)
    content = VOICE.read_bytes()
    record = json.loads(post(content, VOICE.name, "json"))["results"][0]
    page.shows(record)
    page.pictures()
    formats = page.js("return [...document.querySelectorAll('#downloads [data-format]')].map(b => b.dataset.format)")
    listed = json.loads(urllib.request.urlopen(f"{BASE}/v1/models", timeout=PATIENCE).read())
    equal(formats, listed["models"][0]["limits"]["formats"], "downloads")
    for form in formats:
        equal(download(page, form), post(content, VOICE.name, form), form)


def it_plays_and_seeks(page):
    page.get("play").click()
    page.wait("Number(document.getElementById('seek').value) > 0.1", "it plays")
    page.get("play").click()
    equal(page.get("play").get_attribute("aria-label"), "Play", "what the button does")
    page.js(
        "const s = document.getElementById('seek'); s.value = s.max / 2;"
        "s.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    at = page.js("return document.getElementById('cursor').style.left")
    if not 49 < float(at.rstrip("%")) < 51:
        raise AssertionError(f"the cursor is at {at}")


def both_languages_say_everything(page):
    keys = page.browser.execute_async_script(
        "const done = arguments[0];"
        "const keys = o => Object.entries(o).map(([k, v]) => k + typeof v).sort();"
        "import('./ui/words.js').then(({ ALL }) => done([keys(ALL.en), keys(ALL.ko),"
        " keys(ALL.en.errors), keys(ALL.ko.errors), keys(ALL.en.emotions), keys(ALL.ko.emotions)]))"
    )
    for english, korean in zip(keys[::2], keys[1::2]):
        equal(korean, english, "words")
    english = page.get("hero-word").text
    values = "return [...document.querySelectorAll('#bars data')].map(d => d.value)"
    numbers = page.js(values)
    page.browser.find_element(By.CSS_SELECTOR, "[data-language=ko]").click()
    equal(page.js("return document.documentElement.lang"), "ko", "language")
    equal(page.js(values), numbers, "numbers in Korean")
    hangul = "/[가-힣]/.test(document.getElementById(arguments[0]).textContent)"
    for name in ["title", "hero-word", "age-hint", "time-hint", "notice", "status"]:
        if not page.js(f"return {hangul}", name):
            raise AssertionError(f"{name} is not Korean")
    for odd in ["undefined", "null", "[object"]:
        if odd in page.js("return document.body.innerText"):
            raise AssertionError(f"the page says {odd}")
    page.browser.find_element(By.CSS_SELECTOR, "[data-language=en]").click()
    equal(page.get("hero-word").text, english, "strongest, in English again")


def a_recording_is_answered_as_the_same_file(page):
    page.seen()
    page.get("record").click()
    page.wait("document.querySelectorAll('#live-bars .bar').length > 0", "a result on the way")
    level = page.js("return new DOMMatrix(document.getElementById('live-level').style.transform).a")
    if not 0 < level <= 1:
        raise AssertionError(f"the level meter shows {level}")
    page.get("stop").click()
    page.answered("recording.wav")
    asked = page.seen()
    equal([m for m, _ in asked if m in ("POST", "WEBSOCKET")], ["WEBSOCKET"], "requests of a recording")
    content = download(page, "wav")
    with wave.open(str(DOWNLOADS / "recording.wav")) as recording:
        equal((recording.getnchannels(), recording.getsampwidth()), (1, 2), "recording")
        if recording.getnframes() < 2 * recording.getframerate():
            raise AssertionError("the recording is shorter than its first result")
    page.shows(json.loads(post(content, "recording.wav", "json"))["results"][0])
    page.pictures()


def what_goes_wrong_is_said(page):
    bad = FOLDER / "bad.wav"
    bad.write_bytes(b"no recording")
    page.choose(bad)
    error = page.refused()
    if "cannot be used" not in error or "bad.wav" not in error:
        raise AssertionError(error)
    large = FOLDER / "large.wav"
    large.write_bytes(bytes((1 << 20) + 1))
    page.seen()
    page.choose(large)
    page.wait("document.getElementById('error').textContent.includes('1 MB')", "too large is said")
    equal(page.seen(), [], "requests for a file that is too large")
    long = FOLDER / "long.wav"
    with wave.open(str(long), "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(bytes(2 * 8000 * 61))
    page.choose(long)
    page.wait("document.getElementById('error').textContent.includes('60 seconds')", "too long is said")
    # Simulates a server that is busy once.
    page.js(
        "window.kept = fetch; window.fetch = async () => new Response("
        "JSON.stringify({ error: { code: 'busy', message: '' } }), { status: 429, headers: { 'Retry-After': '2' } })"
    )
    page.choose(VOICE)
    page.wait("document.getElementById('retry')?.disabled", "the time to wait is said")
    page.js("window.fetch = window.kept")
    page.wait("document.getElementById('retry')?.disabled === false", "trying again makes sense")
    page.get("retry").click()
    page.answered(VOICE.name)
    equal(page.get("error").is_displayed(), False, "an error after an answer")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    page.choose(VOICE)
    if "cannot be reached" not in page.refused():
        raise AssertionError(page.refused())
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": False})
    page.get("retry").click()
    page.answered(VOICE.name)


def a_narrow_window_holds_it(page):
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for language in ["ko", "en"]:
        page.js("document.querySelector(`[data-language=${arguments[0]}]`).click()", language)
        equal(page.js("return document.documentElement.scrollWidth"), 360, f"width in {language}")
        wide = page.js(
            "return [...document.querySelectorAll('body *:not(.scroll *)')].filter(e => e.checkVisibility()"
            " && e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML.slice(0, 80))"
        )
        equal(wide, [], f"what sticks out in {language}")


def nothing_left_the_server(page):
    page.seen()
    hosts = (BASE + "/", BASE.replace("http:", "ws:") + "/", f"blob:{BASE}/", "data:")
    equal([url for _, url in page.requests if not url.startswith(hosts)], [], "requests elsewhere")
    if not any(url.endswith("/ui/app.js") for _, url in page.requests):
        raise AssertionError("the requests were not recorded")
    # Failed requests are expected; any other message, such as a policy violation, is an error of
    # the page.
    faults = [e["message"] for e in page.browser.get_log("browser") if e["level"] == "SEVERE"]
    equal([f for f in faults if "Failed to load resource" not in f], [], "faults")


def main():
    DOWNLOADS.mkdir()
    browser = start()
    try:
        page = Page(browser)
        # Requests of the browser's own start page do not count.
        browser.get("about:blank")
        browser.get_log("performance")
        browser.get(f"{BASE}/ui")
        page.wait("document.getElementById('model').textContent", "the model is shown")
        equal(page.js("return document.documentElement.lang"), "en", "language")
        for test in [
            a_chosen_file_is_shown_as_the_api_answers,
            it_plays_and_seeks,
            both_languages_say_everything,
            a_recording_is_answered_as_the_same_file,
            what_goes_wrong_is_said,
            a_narrow_window_holds_it,
            nothing_left_the_server,
        ]:
            test(page)
            print("ok", test.__name__, flush=True)
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
