"""SIGHUP and SIGTERM under load."""
import os
import re
import signal
import threading

from agent import allow
from lib import Raw, can_connect, check, eq, fetch, wait_for

SANITIZED = 100


def slow(ev):
    """Every head is held for a while, so that exchanges live over reloads."""
    if ev.kind != "request_head":
        return allow()
    threading.Timer(0.03, ev.reply, (allow(),)).start()
    return None


def test_reload_under_load(env):
    """1000 reloads with exchanges held by a slow agent: no failed request."""
    n = 1000 if "release" in env.build else SANITIZED
    n = int(os.environ.get("E2E_RELOADS", n))
    a = env.agent("waf", slow)
    a.keep = False
    env.agent("second").keep = False
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {"timeout": "10s"}}, workers=2)
    load = env.load(d, "-c", 16, "-d", 3600, "-p", "/n/%", wait=False)
    load.wait_progress(10)
    plain, both = d.config, dict(d.config)
    both["agents"] = dict(plain["agents"], second={
        "socket": env.path("second.sock"), "on_failure": "deny",
        "timeout": "10s"})
    both["routes"] = [
        {"match": {"path_prefix": "/new/"}, "upstream": "app"},
        dict(plain["routes"][0], agents=["waf", "second"])]
    for i in range(n):
        d.config = both if i % 2 == 0 else plain
        d.reload()
    s = load.stop()
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed requests")
    eq(sorted(o.numbers()[0]), list(range(1, s["sent"] + 1)))
    d.wait_idle()
    d.wait_metric(1, "config_snapshots_live")
    eq(d.metric("config_reloads_total", result="ok"), n)


def test_reload_says_what_changes(env):
    d = env.proxy(env.origin().port)
    old = d.config

    def changes(new):
        d.config = new
        before = len(d.own_log())
        d.reload()
        wait_for(lambda: "result=ok" in d.own_log()[before:], "the line")
        return re.findall(r"event=change (.*)", d.own_log()[before:])

    eq(changes(dict(old)), [])
    eq(changes(dict(old, drain_timeout="7s")),
       ['key=drain_timeout from="30s" to="7s"'])
    eq(changes(old), ['key=drain_timeout from="7s" to="30s"'])
    got = changes(dict(old, routes=[
        {"name": "first", "match": {"path": "/x"}, "upstream": "app"},
        dict(old["routes"][0], budget="3s")]))
    eq(len(got), 2, got)
    check(got[0] == 'key=routes[all].budget from="30s" to="3s"' and
          got[1].startswith('key=routes[first] from=none to={"name":"first"'),
          got)
    # More than anybody wants to read.
    got = changes(dict(old, routes=[
        {"name": "r%d" % i, "upstream": "app"} for i in range(200)]))
    eq(len(got), 51)
    check("more" in got[-1])


def test_reload_refused(env):
    """A bad file changes nothing."""
    d = env.proxy(env.origin().port)
    good = d.config
    d.config = dict(good, nonsense=1)
    d.write()
    before = d.metric("config_generation")
    d.proc.send_signal(signal.SIGHUP)
    d.wait_metric(1, "config_reloads_total", result="refused")
    eq(d.metric("config_generation"), before)
    check("event=reload" in d.own_log() and "refused" in d.own_log())
    eq(fetch(d.port).status, 200)
    d.config = good
    d.reload()


def test_reload_routes_and_listeners(env):
    """New requests see the new config; what is under way keeps its own."""
    held = []
    env.agent("waf", lambda ev: held.append(ev))
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "30s"}})
    c = Raw(d.port)
    c.request(target="/old")
    wait_for(lambda: held, "the agent has it")
    port = env.port()
    new = dict(d.config, routes=[{"upstream": "app", "name": "free"}],
               listeners=d.config["listeners"] + [
                   {"name": "more", "address": "127.0.0.1:%d" % port}])
    new.pop("agents")
    d.config = new
    d.reload()
    eq(fetch(d.port, target="/new").status, 200)
    eq(fetch(port, target="/new").status, 200)
    held[0].reply(allow())
    eq(c.response().status, 200)
    d.wait_metric(1, "config_snapshots_live")
    c.request(target="/again")          # the same connection, the new config
    eq(c.response().status, 200)
    eq(len(held), 1)


def test_reload_takes_listener_away(env):
    """Its clients are told by an answer; nothing that they say is lost."""
    held = []
    step = threading.Event()

    def drip(x):
        if x.target != "/drip":
            return x.answer(200, x.read_body())
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        step.wait(30)
        x.send("b")
        return None

    env.agent("waf", lambda ev: held.append(ev) if ev.kind == "request_head"
              and ev.uri == "/held" else allow())
    o = env.origin(drip)
    port = env.port()
    d = env.proxy(o.port, {"waf": {"timeout": "30s"}}, workers=2)
    one = d.config["listeners"]
    d.config["listeners"] = one + [{
        "name": "more", "address": "127.0.0.1:%d" % port,
        "trusted_proxies": ["127.0.0.0/8"], "limits": {"body": "1KiB"}}]
    d.reload()
    mid, waits, idle, big, silent = (Raw(port) for _ in range(5))
    mid.request(target="/drip")
    mid.until(b"\r\n\r\na")
    waits.request(target="/held")
    wait_for(lambda: held, "the agent has it")
    for c in idle, big, silent:
        c.request(target="/first")
        eq(c.response().get("connection"), None)
    d.config["listeners"] = one
    d.reload()
    idle.request(headers={"X-Forwarded-For": "192.0.2.7"})
    big.request("POST", body=b"x" * 2000)
    r = idle.response()
    eq((r.status, r.get("connection")), (200, "close"))
    check("192.0.2.7" in o.seen[-1].get("x-forwarded-for"), "still trusted")
    r = big.response()
    eq((r.status, r.get("connection")), (413, "close"))
    held[0].reply(allow())
    r = waits.response()
    eq((r.status, r.get("connection")), (200, "close"))
    check(silent.closed())
    # Its head went out before: the next answer says it.
    step.set()
    eq(mid.exactly(1), b"b")
    mid.request(target="/next")
    r = mid.response()
    eq((r.status, r.get("connection")), (200, "close"))
    for c in mid, waits, idle, big:
        check(c.closed())
    check(not can_connect(port), "it is still listened on")
    d.wait_metric(1, "config_snapshots_live")


def test_drain_under_load(env):
    """SIGTERM: what was taken is answered, nothing is cut."""
    env.agent("waf", slow).keep = False
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {"timeout": "10s"}}, workers=2)
    load = env.load(d, "-c", 32, "-r", 500, "-d", 600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(200)
    d.proc.send_signal(signal.SIGTERM)
    eq(d.proc.wait(60), 0, "exit status")
    s = load.stop()
    eq((s["cut"], s["framing"], s["mixed"], s["twice"]), (0, 0, 0, 0))
    eq({int(k) for k, v in s["status"].items()} - {0}, {200})
    # A request that found no connection any more was not taken.
    lost = {n for n, result, _, _ in s["requests"] if result != "ok"}
    eq(lost & set(o.numbers()[0]), set(), "forwarded but never answered")


def test_drain_waits_and_second_signal(env):
    env.agent("waf", lambda ev: None)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "60s"}},
                  drain_timeout="60s")
    c = Raw(d.port)
    c.request()
    wait_for(lambda: d.metric("exchanges_in_flight") == 1, "the exchange")
    d.proc.send_signal(signal.SIGTERM)
    wait_for(lambda: b'"draining":true' in d.admin("/readyz").body.replace(
        b" ", b""), "draining")
    eq(d.admin("/readyz").status, 503)
    d.proc.send_signal(signal.SIGTERM)
    eq(d.proc.wait(20), 0)
    try:
        check(c.response().status >= 500)
    except (EOFError, ConnectionResetError):
        pass


def test_drain_held_exchange(env):
    held = []
    env.agent("waf", lambda ev: held.append(ev))
    d = env.proxy(env.origin().port, {"waf": {"timeout": "60s"}})
    c = Raw(d.port)
    c.request()
    wait_for(lambda: held, "the agent has it")
    d.proc.send_signal(signal.SIGTERM)
    wait_for(lambda: d.admin("/readyz").status == 503, "draining")
    held[0].reply(allow())
    r = c.response()
    eq((r.status, r.get("connection")), (200, "close"))
    eq(d.proc.wait(20), 0)
