"""Config keys whose effect no other test shows by itself; see ../keys.tsv.
Each test has a value that is not the default and looks for what it does."""
import json
import os
import re
import signal
import socket
import time

from agent import allow, block
from lib import Raw, check, eq, fetch, wait_for
from test_dialects import setup as scripted


def queued(d):
    return json.loads(d.admin("/agents").body)["agents"][0]["queued"]


def held_agent(env, name="waf", kinds=("request_head",)):
    held = []
    agent = env.agent(name, lambda ev: held.append(ev) if ev.kind in kinds
                      else allow())
    return agent, held


# ---- the process -----------------------------------------------------------------

def test_key_workers(env):
    d = env.proxy(env.origin().port, workers=3)
    eq(d.metric("workers"), 3)
    names = []
    for tid in os.listdir("/proc/%d/task" % d.proc.pid):
        with open("/proc/%d/task/%s/comm" % (d.proc.pid, tid)) as f:
            names.append(f.read().strip())
    eq(sorted(n for n in names if n.startswith("worker")),
       ["worker-0", "worker-1", "worker-2"])


def test_key_drain_timeout(env):
    _, held = held_agent(env)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "60s"}},
                  drain_timeout="300ms")
    c = Raw(d.port)
    c.request()
    wait_for(lambda: held, "the agent has it")
    began = time.monotonic()
    d.proc.send_signal(signal.SIGTERM)
    eq(d.proc.wait(20), 0)
    check(0.3 <= time.monotonic() - began < 10)
    check("reason=drain_timeout" in d.own_log(), d.own_log())


def test_key_admin_address(env):
    path = env.path("admin.sock")
    config = env.config(env.origin().port)
    port = int(config["admin"]["address"].rsplit(":")[-1])
    d = env.start(config)
    eq(fetch(port, target="/livez").status, 200)
    d.stop()
    config["admin"]["address"] = "unix:" + path
    with open(d.file, "w") as f:
        json.dump(config, f)
    p = env.spawn([env.binary("agentproxyd"), "-c", d.file],
                  stdout=d.log, stderr=d.log)
    wait_for(lambda: os.path.exists(path), "the socket")
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    check(s.recv(100).startswith(b"HTTP/1.1 200"))
    p.send_signal(signal.SIGTERM)
    eq(p.wait(20), 0)


def test_key_log_level(env):
    d = env.proxy(env.origin().port)
    check(" info " in d.own_log() and " debug " not in d.own_log())
    d.config["log"]["level"] = "warn"
    d.reload()
    before = len(d.own_log())
    d.proc.send_signal(signal.SIGUSR1)
    d.config["log"]["level"] = "debug"
    d.reload()
    eq(re.findall(r" info reopen ", d.own_log()[before:]), [])
    d.proc.send_signal(signal.SIGUSR1)
    wait_for(lambda: " info reopen " in d.own_log()[before:], "a line")


def test_key_log_access_format(env):
    config = env.config(env.origin().port)
    config["log"]["access"]["format"] = "combined"
    d = env.start(config)
    fetch(d.port, target="/a?b", headers={"User-Agent": "me", "Referer":
                                          "http://r/"})

    def line():
        with open(d.access_path) as f:
            return f.read()
    wait_for(lambda: line().endswith("\n"), "a line")
    check(re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d '
                       r'\+0000\] "GET /a\?b HTTP/1\.1" 200 \d+ '
                       r'"http://r/" "me"[^\n]*\n', line()), line())


# ---- upstreams -------------------------------------------------------------------

def test_key_check_interval(env):
    """Ten checks would take 20 s by the default."""
    o = env.origin()
    config = env.config(o.port)
    config["upstreams"]["app"]["check"] = {"type": "http",
                                           "interval": "20ms"}
    env.start(config)
    o.wait(10)


# ---- agents ----------------------------------------------------------------------

def test_key_connections(env):
    a = env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {"connections": 2}}, workers=2)
    d.wait_metric(4, "agent_links", agent="waf", state="up")
    eq(len(a.links), 4)


def test_key_max_connections(env):
    a, held = held_agent(env)
    d = env.proxy(env.origin().port, {"waf": {
        "connections": 1, "max_connections": 3, "depth": 1,
        "timeout": "60s"}})
    eq(len(a.links), 1)
    # One more for each request that finds no room, up to three.
    cs = []
    for n in 1, 2, 3, 3, 3:
        cs.append(Raw(d.port))
        cs[-1].request()
        wait_for(lambda: len(held) == n, "%d are asked" % n)
        d.wait_metric(n, "agent_links", agent="waf", state="up")
    for c in cs:
        wait_for(lambda: held, "the next")
        held.pop().reply(allow())
    for c in cs:
        eq(c.response().status, 200)
    eq(d.metric("agent_links", agent="waf", state="up"), 3)


def test_key_max_concurrency(env):
    _, held = held_agent(env)
    d = env.proxy(env.origin().port, {"waf": {
        "max_concurrency": 2, "timeout": "60s"}})
    cs = [Raw(d.port) for _ in range(3)]
    for c in cs:
        c.request()
    wait_for(lambda: len(held) == 2 and queued(d) == 1, "one waits")
    held.pop().reply(allow())
    wait_for(lambda: len(held) == 2, "its turn")
    for ev in held:
        ev.reply(allow())
    for c in cs:
        eq(c.response().status, 200)


def test_key_encoding(env):
    for want in ("json", "msgpack"):
        a = env.agent(want, encoding="msgpack")
        d = env.proxy(env.origin().port, {want: {"encoding": want}})
        eq(fetch(d.port).status, 200)
        eq(a.links[0].encoding, want)
        eq(json.loads(d.admin("/agents").body)["agents"][0]["instances"][0]
           ["encoding"], want)


def test_key_chunk_size(env):
    a = env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {"chunk_size": "1KiB"}},
                  {"agents": [{"name": "waf", "request_body": "stream"}]})
    eq(fetch(d.port, "POST", body=b"x" * 10240).status, 200)
    eq(max(len(e.data) for e in a.of("request_chunk")), 1024)


def test_key_max_reply_bytes(env):
    def handler(ev):
        return block(403, "x" * 6000) if ev.uri == "/big" else \
            block(403, "x" * 2000)

    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {
        "max_reply_bytes": "4KiB", "chunk_size": "1KiB"}})
    eq(fetch(d.port, target="/small").status, 403)
    eq(fetch(d.port, target="/big").status, 502)
    eq(d.metric("agent_failures_total", agent="waf", cause="protocol"), 1)


def time_outs(env, agent, use=None, kinds=("request_head",), route=None):
    """What a request with a body is answered when these are not."""
    held_agent(env, "waf", kinds)
    d = env.proxy(env.origin().port, {"waf": agent}, dict(
        {"agents": [dict({"name": "waf", "request_body": "stream"},
                         **(use or {}))]}, **(route or {})))
    began = time.monotonic()
    r = fetch(d.port, "POST", body=b"x" * 1000)
    eq(r.status, 504)
    check(time.monotonic() - began < 8, "by another time-out")
    eq(len(d.metrics().all("agent_failures_total", agent="waf")), 9)
    return d


def test_key_timeout_head(env):
    d = time_outs(env, {"timeout": {"head": "50ms", "body": "20s"}})
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


def test_key_timeout_body(env):
    d = time_outs(env, {"timeout": {"head": "20s", "body": "50ms"}},
                  kinds=("request_chunk",))
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


def test_key_timeout_budget(env):
    d = time_outs(env, {"timeout": {"head": "20s", "budget": "50ms"}})
    eq(d.metric("agent_failures_total", agent="waf", cause="budget"), 1)


def test_key_route_timeout(env):
    d = time_outs(env, {"timeout": "20s"}, {"timeout": "50ms"})
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


def test_key_route_timeout_head(env):
    d = time_outs(env, {"timeout": "20s"}, {"timeout": {"head": "50ms"}})
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


def test_key_route_timeout_body(env):
    d = time_outs(env, {"timeout": "20s"}, {"timeout": {"body": "50ms"}},
                  ("request_chunk",))
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


def test_key_route_timeout_budget(env):
    d = time_outs(env, {"timeout": "20s"}, {"timeout": {"budget": "50ms"}})
    eq(d.metric("agent_failures_total", agent="waf", cause="budget"), 1)


def test_key_route_budget(env):
    d = time_outs(env, {"timeout": "20s"}, route={"budget": "50ms"})
    eq(d.metric("agent_failures_total", agent="waf", cause="budget"), 1)


def test_key_on_failure(env):
    """At the agent, at the route, which is stronger, and by cause."""
    env.agent("waf", lambda ev: None)
    o = env.origin()
    use = [{"name": "waf"}, {"name": "waf", "on_failure": "allow"},
           {"name": "waf", "on_failure": {
               "timeout": "allow", "connect": "deny", "closed": "deny",
               "protocol": "deny", "unreadable": "deny", "overload": "deny",
               "unavailable": "deny", "too_large": "deny",
               "budget": "deny"}}]
    config = env.config(o.port, {"waf": {"timeout": "50ms",
                                         "on_failure": "deny"}})
    config["routes"] = [{"match": {"path": "/%d" % i}, "upstream": "app",
                         "agents": [u]} for i, u in enumerate(use)]
    d = env.start(config)
    eq([fetch(d.port, target="/%d" % i).status for i in range(3)],
       [504, 200, 200])


def test_key_deny_status(env):
    env.agent("waf", lambda ev: None)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "50ms",
                                              "deny_status": 451}})
    eq(fetch(d.port).status, 451)


def test_key_pseudo_headers(env):
    for on in False, True:
        a = env.agent("a%d" % on)
        d = env.proxy(env.origin().port, {"a%d" % on: {
            "pseudo_headers": on}})
        fetch(d.port, "GET", "/p?q")
        h = a.wait("request_head").headers
        names = [n for n in h if n.startswith(":")] if isinstance(h, dict) \
            else [n for n, _ in h if n.startswith(":")]
        eq(sorted(names), [":method", ":path"] if on else [])


def test_key_complete(env):
    """never: an answer to it is none that was asked for."""
    for word in "never", "auto", "always":
        a = env.agent(word)
        d = env.proxy(env.origin().port, {word: {"complete": word,
                                                 "connections": 1}})
        eq(fetch(d.port).status, 200)
        a.wait("complete")
        if word == "never":
            wait_for(lambda: "cause=protocol" in d.own_log(),
                     "a fault")
        else:
            eq(fetch(d.port).status, 200)
            eq(d.metric("agent_reconnects_total", agent=word), 0)


def test_key_complete_wait(env):
    """With the next event, just before it; 0: at once, alone."""
    def seen(a):
        return [e.kind for e in a.events]

    a = env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {
        "complete": "always", "complete_wait": "10s"}})
    for _ in range(3):
        eq(fetch(d.port).status, 200)
    eq(seen(a), ["request_head", "complete"] * 2 + ["request_head"])
    d.config["agents"]["waf"]["complete_wait"] = "0"
    d.reload()
    eq(fetch(d.port).status, 200)
    wait_for(lambda: seen(a).count("complete") == 4, "all ends")
    d.stop()
    eq(len(a.events), 8)


def test_key_complete_wait_over(env):
    """Nothing comes for it to go with."""
    a = env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {
        "complete": "always", "complete_wait": "20ms"}})
    eq(fetch(d.port).status, 200)
    a.wait("complete")
    eq(d.metric("agent_reconnects_total", agent="waf"), 0)


def test_key_go_release(env):
    for on in True, False:
        a, _, d = scripted(env, "go", {"on_failure": "deny",
                                       "go_release": on})
        eq(fetch(d.port).status, 200)
        a.wait("request_head")
        d.stop()
        eq(bool(a.frames("complete")), on)
        a.proc.kill()
        a.proc.wait()
        os.unlink(a.path)
        os.unlink(a.log)


# ---- routes ----------------------------------------------------------------------

def test_key_names(env):
    """Of listeners, routes and upstreams: in the log and in metrics."""
    config = env.config(env.origin().port)
    config["listeners"][0]["name"] = "front"
    config["routes"] = [{"name": "way", "match": {"path": "/x"},
                         "upstream": "app"}, {"upstream": "app"}]
    d = env.start(config)
    fetch(d.port, target="/x")
    fetch(d.port, target="/y")
    lines = d.access(2)
    eq([(x["listener"], x["route"], x["upstream"]) for x in lines],
       [("front", "way", "app"), ("front", "route-2", "app")])
    eq(d.metric("connections_total", listener="front"), 2)
    eq(d.metric("requests_total", route="way"), 1)
    eq(d.metric("upstream_requests_total", upstream="app"), 2)


def test_key_agent_listener_mode(env):
    path = env.path("door")
    config = env.config(env.origin().port, {"waf": {"reverse": True}})
    del config["agents"]["waf"]["socket"]
    config["agent_listener"] = {"address": "unix:" + path, "mode": "0600"}
    env.start(config, ready=False)
    eq(os.stat(path).st_mode & 0o777, 0o600)
