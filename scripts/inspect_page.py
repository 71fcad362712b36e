#!/usr/bin/env python3
"""Uses a page of `toedit inspect --html` as a person does, in Chromium, by the DevTools protocol over a pipe.

usage: inspect_page.py CHROMIUM PROFILE PAGE DIR      screenshots go to DIR; the standard library alone
"""
import base64
import json
import os
import subprocess
import sys
import time

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]


class Browser:
    """A page in a browser."""

    def __init__(self, program, profile):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()

        def place():
            # Away from 3 and 4 first: either pipe may lie there.
            high = [os.dup(commands), os.dup(answers)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [program, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(command, preexec_fn=place, pass_fds=(3, 4), stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self.buffer, self.events, self.count, self.session = b"", [], 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log"]:
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            chunk = os.read(self.answers, 1 << 16)
            if not chunk:
                sys.exit("the browser is gone")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.commands, data):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url, width, height, dark=False, touch=False):
        """Loads a page and gives the seconds that it took."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        start = time.monotonic()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())
        self.settle()
        return time.monotonic() - start

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def settle(self):
        """Waits for two frames."""
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.evaluate(frame)

    def key(self, key):
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" and len(key) == 1 else "")
        self.settle()

    def center(self, selector):
        box = f"document.querySelector('{selector}').getClientRects()[0]"
        return self.evaluate(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({box})")

    def mouse(self, selector, click=False):
        x, y = self.center(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ["mousePressed", "mouseReleased"] if click else []:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def tap(self, selector):
        x, y = self.center(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        time.sleep(0.3)
        self.settle()

    def shoot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        print(path)

    def complaints(self):
        """What the page's script or its policy stumbled over."""
        methods = ["Runtime.exceptionThrown", "Log.entryAdded"]
        return [event["params"] for event in self.events if event.get("method") in methods]


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


AT = "document.getElementById('at').textContent"
TIP = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText"
EDIT = "#d1 .text a"


def check_keys(browser, count):
    expect(browser.evaluate(AT), f"– / {count}", "before the first document")
    for key, number in [("j", 1), ("j", 2), ("n", 3), ("k", 2), ("ArrowRight", 3), ("p", 2), ("ArrowLeft", 1)]:
        browser.key(key)
        expect(browser.evaluate(AT), f"{number} / {count}", f"after {key}")
    browser.evaluate(f"document.getElementById('d{count}').scrollIntoView()")
    browser.key("Escape")
    expect(browser.evaluate(AT), f"{count} / {count}", "at the end")
    browser.evaluate("scrollTo(0, 0)")
    browser.settle()


def check_tip(browser, row):
    tip = browser.evaluate(TIP)
    for part in row[:2] + [f"token {row[2]}: p {row[3]}"]:
        if part not in tip:
            sys.exit(f"no {part!r} in the tip {tip!r}")


def main(program, profile, page, folder):
    browser = Browser(program, profile)
    url = f"file://{os.path.abspath(page)}"
    seconds = browser.open(url, 1280, 1400)
    count = browser.evaluate("document.querySelectorAll('article').length")
    cells = "[...document.querySelector('#d1e1').cells]"
    # Both tokens, the position and the probability of the old one.
    row = browser.evaluate(f"[...{cells}[3].querySelectorAll('del, ins')].map((e) => e.innerText)")
    row += browser.evaluate(f"[{cells}[0], {cells}[1]].map((cell) => cell.innerText)")
    print(f"{os.path.basename(page)}: {count} documents, loaded in {seconds:.2f} s")
    check_keys(browser, count)
    browser.mouse(EDIT)
    check_tip(browser, row)
    browser.shoot(f"{folder}/desktop.png")
    browser.mouse("h1")
    expect(browser.evaluate(TIP), "", "tip, away from the edit")
    browser.evaluate("document.querySelector('#d1 details').open = false")
    browser.mouse(EDIT, click=True)
    expect(browser.evaluate("location.hash"), "#d1e1", "after a click")
    expect(browser.evaluate("document.querySelector('#d1 details').open"), True, "list, after a click")
    browser.shoot(f"{folder}/edit.png")
    browser.open(url, 1280, 1400, dark=True)
    browser.mouse(EDIT)
    browser.shoot(f"{folder}/dark.png")
    browser.open(url, 390, 844, touch=True)
    expect(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), True, "no sideways scrolling")
    browser.tap(EDIT)
    check_tip(browser, row)
    expect(browser.evaluate("location.hash"), "", "after a tap")
    browser.shoot(f"{folder}/phone.png")
    browser.evaluate("document.querySelector('#d1 details').scrollIntoView()")
    browser.settle()
    browser.shoot(f"{folder}/phone-list.png")
    expect(browser.complaints(), [], "complaints")
    browser.process.terminate()


main(*sys.argv[1:])
