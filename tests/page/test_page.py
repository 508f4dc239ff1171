#!/usr/bin/env python3
"""The web page in headless Chromium: what a person does, in both themes and at a phone's width, and axe.

    tests/page/test_page.py [--url URL] [--shots FOLDER]

Without --url a server of this folder answers (page_stub.py), whose answers are known. Needs Debian's chromium and
PyPI's playwright and axe-playwright-python; exit status 77 says what is missing."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect, sync_playwright
except ImportError as e:
    print(f"skip: {e.name} is not installed: ./dev test --clients does that")
    sys.exit(77)
QUESTION = "Write a Python function that merges two sorted lists."
SIZES = {"light": (1280, 860, "light"), "dark": (1280, 860, "dark"), "phone": (390, 844, "light"),
         "phone-dark": (390, 844, "dark")}
failures, checks = [], []


def check(what, good, seen=""):
    checks.append(what)
    if not good:
        failures.append(what)
        print(f"FAILED: {what} {seen}")


def axe(page, where):
    found = [(v["id"], v["impact"], v["nodes"][0]["target"]) for v in Axe().run(page).response["violations"]]
    check(f"axe finds nothing, {where}", not found, found)


def ended(page, n):
    expect(page.locator("article.answer .tools")).to_have_count(n, timeout=120000)


def send(page, text):
    page.fill("#input", text)
    page.keyboard.press("Enter")


class Visit:
    """A page of its own, with what went wrong in it."""
    def __init__(self, browser, url, size):
        w, h, scheme = SIZES[size]
        self.context = browser.new_context(viewport={"width": w, "height": h}, color_scheme=scheme)
        self.page, self.wrong, self.sent = self.context.new_page(), [], []
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("console", lambda m: m.type == "error" and "400" not in m.text and self.wrong.append(m.text))
        self.page.on("request", lambda r: r.method == "POST" and self.sent.append(json.loads(r.post_data)))
        self.page.goto(url)
        self.page.wait_for_selector("#model option", state="attached")

    def close(self, where):
        check(f"nothing goes wrong in the page, {where}", not self.wrong, self.wrong)
        self.context.close()


def looks(browser, url, shots):
    """Every size and theme: pictures for people, axe, nothing wider than the screen."""
    for size, (width, _, _) in SIZES.items():
        visit = Visit(browser, url, size)
        page, shot = visit.page, lambda name: shots and page.screenshot(path=f"{shots}/{size}-{name}.png")
        shot("empty")
        axe(page, f"{size}, empty")
        send(page, QUESTION)
        ended(page, 1)
        shot("answer")
        axe(page, f"{size}, answered")
        wide = page.evaluate("document.documentElement.scrollWidth")
        check(f"nothing is wider than the screen, {size}", wide <= width, wide)
        if width < 500:
            page.click("#open-side")
            page.wait_for_timeout(400)
            axe(page, f"{size}, list")
            shot("list")
            page.keyboard.press("Escape")
            check("Escape closes the list", "side-open" not in (page.get_attribute("body", "class") or ""))
        page.keyboard.press("Alt+s")
        axe(page, f"{size}, settings")
        shot("settings")
        page.keyboard.press("Escape")
        visit.close(size)


def behaves(browser, url):
    visit = Visit(browser, url, "light")
    page = visit.page
    send(page, QUESTION)
    page.wait_for_selector("#stop:not([hidden])")
    while len(page.inner_text("article.answer .body")) < 60:
        page.wait_for_timeout(20)
    page.keyboard.press("Escape")
    ended(page, 1)
    check("a stopped answer says so and is kept", "stopped" in page.inner_text(".figures"), page.inner_text(".figures"))
    page.keyboard.press("Alt+r")
    ended(page, 1)
    check("a second answer stands beside the first", "2 of 2" in page.inner_text("article.answer .tools"))
    page.click("[aria-label='The answer before']")
    check("the first can be had back", "1 of 2" in page.inner_text("article.answer .tools"))
    page.click("[aria-label='The next answer']")
    send(page, "And in C?")
    ended(page, 2)
    said = visit.sent[-1]["messages"]
    check("what was said is sent again", [m["role"] for m in said] == ["user", "assistant", "user"], said)
    page.reload()
    page.wait_for_selector("article.answer")
    check("a conversation outlives a reload", page.locator("article").count() == 4)
    page.focus("#input")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector(".edit textarea")
    page.keyboard.press("Control+a")
    page.keyboard.type("And in Rust?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop:not([hidden])")
    page.wait_for_selector("#stop[hidden]", state="attached", timeout=120000)
    check("an edited message replaces what followed", page.locator("article.user").count() == 2
          and visit.sent[-1]["messages"][-1]["content"] == "And in Rust?")
    page.keyboard.press("Alt+s")
    page.fill("#s-temperature", "0.5")
    page.fill("#s-system", "Be brief.")
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+n")
    send(page, "Hello")
    ended(page, 1)
    last = visit.sent[-1]
    check("settings are sent", last.get("temperature") == 0.5 and last["messages"][0]["role"] == "system", last)
    check("there are two conversations", page.locator("#list li").count() == 2)
    page.click("#list li.now [aria-label^='Delete']")
    page.wait_for_selector("#toast:not([hidden])")
    check("one is deleted", page.locator("#list li").count() == 1)
    page.click("#toast button")
    check("and comes back", page.locator("#list li").count() == 2)
    page.click("#list li.now [aria-label^='Rename']")
    page.keyboard.type("Greetings")
    page.keyboard.press("Enter")
    check("it has a new name", page.inner_text("#title") == "Greetings", page.inner_text("#title"))
    page.fill("#find", "greet")
    check("the search finds one", page.locator("#list li").count() == 1)
    visit.close("behaviour")


def known_answers(browser, url):
    """What only the server of this folder can show."""
    visit = Visit(browser, url, "light")
    page = visit.page
    send(page, QUESTION)
    ended(page, 1)
    check("an answer is never read as HTML", "<script>alert(1)</script>" in page.inner_text("article.answer .body"))
    for part in ("ol > li > ul > li", "table td", ".code pre code", "blockquote a[rel='noopener noreferrer']", "h2"):
        check(f"Markdown makes {part}", page.locator("article.answer .body " + part).count() > 0)
    check("passes through the model are drawn", page.locator("figure.overlap rect.more").count() > 5
          and "a pass" in page.inner_text("figure.overlap"))
    send(page, "break")
    page.wait_for_selector(".fault")
    check("an error is shown in the server's words", "the context 8,192" in page.inner_text(".fault"))
    visit.close("known answers")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--url", help="of a running server")
    ap.add_argument("--shots", metavar="FOLDER", help="pictures of every size and theme")
    args = ap.parse_args()
    chromium = shutil.which("chromium")
    if not chromium:
        print("skip: there is no chromium: ./dev test --clients installs it")
        return 77
    if args.shots:
        os.makedirs(args.shots, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        port_file = os.path.join(folder, "port")
        stub = subprocess.Popen([sys.executable, os.path.join(HERE, "page_stub.py"), ROOT, port_file])
        try:
            while not os.path.exists(port_file):
                time.sleep(0.05)
            with open(port_file, encoding="ascii") as f:
                stub_url = f"http://127.0.0.1:{f.read()}/"
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            url = args.url or stub_url
            looks(browser, url, args.shots)
            behaves(browser, url)
            known_answers(browser, stub_url)
            browser.close()
        finally:
            stub.kill()
            stub.wait()
    print(f"the page: {len(checks) - len(failures)} of {len(checks)} checks hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
