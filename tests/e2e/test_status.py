"""The status page, in a real browser."""
import os
import re
import shutil
import subprocess

from agent import allow
from lib import Skip, check, eq, fetch

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser(env, *argv):
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        raise Skip("no chromium: apt-get install chromium")
    out = subprocess.run(
        [path, "--headless", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--no-first-run",
         "--user-data-dir=" + env.path("profile"), "--window-size=1200,1000",
         # Virtual time: five seconds of looking, as fast as it goes.
         "--virtual-time-budget=5000"] + list(argv),
        capture_output=True, text=True, timeout=90)
    return out.stdout


def busy(env):
    a = env.agent("waf", lambda ev: allow())
    a.keep = False
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {}})
    env.load(d, "-c", 4, "-n", 500, "-p", "/n/%")
    return d


def test_status_page_headers(env):
    d = env.proxy(env.origin().port)
    r = d.admin("/")
    eq((r.status, r.get("content-type")), (200, "text/html; charset=utf-8"))
    check("default-src 'none'" in r.get("content-security-policy"))
    # Nothing is loaded from elsewhere.
    check(not re.search(r"(src|href)=[\"']?(https?:)?//", r.text))
    eq(fetch(d.admin_port, "POST", "/").status, 405)


def test_status_page_in_browser(env):
    """All parts are filled in, by a script that found no error."""
    d = busy(env)
    dom = browser(env, "--dump-dom", "http://127.0.0.1:%d/" % d.admin_port)
    check(dom, "the browser says nothing")
    check(re.search(r'data-looks="[1-9]', dom), "the script did not run")
    state = re.search(r'id="state"[^>]*>([^<]*)', dom).group(1)
    check(state.startswith("ready"), state)
    for text in (">waf<", ">healthy<", ">closed<", ">all<", ">app<",
                 "127.0.0.1:%d" % int(d.config["upstreams"]["app"]
                                      ["servers"][0].split(":")[1]), ">500<"):
        check(text in dom, "%s is not on the page" % text)
    check("NaN" not in dom and "undefined" not in dom)


def test_status_page_screenshot(env):
    d = busy(env)
    path = os.environ.get("E2E_SCREENSHOT", env.path("status.png"))
    load = env.load(d, "-c", 8, "-d", 60, wait=False)
    browser(env, "--screenshot=" + path,
            "http://127.0.0.1:%d/" % d.admin_port)
    load.stop()
    with open(path, "rb") as f:
        png = f.read()
    eq(png[:8], b"\x89PNG\r\n\x1a\n")
    check(len(png) > 20000, "an empty picture of %d bytes" % len(png))
