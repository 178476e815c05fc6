"""Agents that die, stop, or never come, under a numbered load.

The equations: what the upstream got = what was allowed + what went past; no
number twice; no request past its deadline; the counters are what the client
saw.
"""
import json
import os
import signal
import socket
import threading
import time

from agent import allow
from lib import Raw, check, eq, fetch, wait_for

TIMEOUT_MS = 200
SLOW = 5                # how much later a busy machine may be, sanitized
RATE = 400


def agents(policy):
    return {"waf": {"timeout": "%dms" % TIMEOUT_MS, "on_failure": policy}}


def links(d):
    return (d.metric("agent_links", agent="waf", state="up"),
            d.metric("agent_links", agent="waf", state="stalled"))


def connectable(path):
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.close()
        return True
    except OSError:
        return False


def recovers(env, d, since):
    """A verdict of the agent's own within 100 ms after it is back."""
    before = d.metric("agent_decisions_total", agent="waf")
    wait_for(lambda: d.metric("agent_decisions_total", agent="waf") > before,
             "the agent is asked again")
    took = time.monotonic() - since
    print("recovered in %.0f ms" % (took * 1e3))
    limit = 0.1 if "release" in env.build else 0.1 * SLOW
    check(took < limit, "recovery took %.0f ms" % (took * 1e3))


def check_equations(env, d, o, s, policy):
    d.wait_idle()
    status = {int(k): v for k, v in s["status"].items()}
    allowed = {n for n, r, code, _ in s["requests"] if code == 200}
    refused = s["sent"] - len(allowed)
    # Each request was answered, well, once, and in time.
    eq(s["ok"], s["sent"], "answered (%r)" % {
        k: s[k] for k in ("cut", "none", "timeout", "framing", "connect",
                          "mixed")})
    eq((s["twice"], s["unsolicited"]), (0, 0), "answered twice")
    check(set(status) <= {200, 502, 503, 504}, status)
    deadline = TIMEOUT_MS * 1000 + 300000
    if "release" not in env.build:
        deadline *= SLOW
    check(s["latency_us"]["max"] <= deadline,
          "%d us, deadline %d" % (s["latency_us"]["max"], deadline))
    # Forwarded: what the client got, nothing else, nothing twice.
    whole, partial = o.numbers()
    eq(partial, [], "half requests")
    eq(len(whole), len(set(whole)), "forwarded twice")
    eq(set(whole), allowed, "forwarded numbers")
    # The counters.
    m = d.metrics()

    def agent(name, **labels):
        return m.get("agent_" + name, agent="waf", **labels)
    decided = agent("decisions_total", event="request_head", decision="allow")
    bypass, denied = agent("bypass_total"), agent("denied_total")
    eq(decided + bypass, len(whole), "allowed + bypass")
    eq(denied, refused, "denied")
    eq(agent("failures_total"), bypass + denied, "failures")
    eq(bypass if policy == "deny" else denied, 0, policy)
    eq(m.get("requests_total", code_class="2xx"), len(allowed), "2xx")
    eq(m.get("requests_total", code_class="5xx"), refused, "5xx")
    asked = agent("events_total", event="request_head")
    other = decided + agent("abandoned_total") + agent("in_flight")
    check(other <= asked <= other + agent("failures_total"),
          "asked %d, decided %d" % (asked, decided))
    check(refused > 0 if policy == "deny" else bypass > 0, "no failure seen")
    eq(agent("queue_seconds_count") >= 0, True)


def start(env, policy, **more):
    o = env.fast_origin()
    p = env.agent_process()
    d = env.proxy(o.port, agents(policy), workers=2, **more)
    load = env.load(d, "-c", 256, "-r", RATE, "-n", RATE * 4, "-p", "/n/%",
                    wait=False)
    load.wait_progress(RATE // 2)
    return o, p, d, load


def kill9(env, policy):
    o, p, d, load = start(env, policy)
    p.kill()
    p.wait()
    load.wait_progress(load.done + RATE // 2)
    os.unlink(env.path("waf.sock"))
    env.agent_process()
    wait_for(lambda: connectable(env.path("waf.sock")), "the agent")
    recovers(env, d, time.monotonic())
    check_equations(env, d, o, load.result(), policy)


def stop_cont(env, policy):
    o, p, d, load = start(env, policy)
    p.send_signal(signal.SIGSTOP)
    load.wait_progress(load.done + RATE // 2)
    p.send_signal(signal.SIGCONT)
    recovers(env, d, time.monotonic())
    check_equations(env, d, o, load.result(), policy)


def test_kill9_deny(env):
    kill9(env, "deny")


def test_kill9_allow(env):
    kill9(env, "allow")


def test_kill_stop_deny(env):
    stop_cont(env, "deny")


def test_kill_stop_allow(env):
    stop_cont(env, "allow")


def test_never_there(env):
    """deny: 503 with Retry-After; allow: it goes on. At once, both."""
    o = env.origin()
    for policy, status in (("deny", 503), ("allow", 200)):
        d = env.proxy(o.port, {"waf": {"timeout": "10s",
                                       "on_failure": policy}}, ready=False)
        began = time.monotonic()
        r = fetch(d.port)
        eq(r.status, status)
        check(time.monotonic() - began < 5, "it waited for the time-out")
        if policy == "deny":
            check(r.get("retry-after"), "no Retry-After")
        line = d.access()[0]
        eq((line["bypass"], line["agents"][0]["cause"] in
            ("connect", "unavailable")), (policy == "allow", True))
        d.stop()
        os.unlink(env.path("access.log"))


def test_comes_late(env):
    d = env.proxy(env.origin().port, agents("deny"), ready=False)
    eq(d.admin("/readyz").status, 503)
    env.agent("waf")
    wait_for(d.is_ready, "found at once", 1)
    eq(fetch(d.port).status, 200)


def test_policy_by_cause(env):
    held = []
    env.agent("waf", lambda ev: held.append(ev))
    d = env.proxy(env.origin().port, {"waf": {
        "timeout": "100ms",
        "on_failure": {"timeout": "allow", "protocol": "deny",
                       "connect": "deny", "closed": "deny",
                       "unreadable": "deny", "overload": "deny",
                       "unavailable": "deny", "too_large": "deny",
                       "budget": "deny"}}})
    eq(fetch(d.port).status, 200)
    eq(d.metric("agent_bypass_total", agent="waf", cause="timeout"), 1)


def test_link_lost_while_asked(env):
    """The waiting exchanges get their verdict at once, not at the time-out."""
    a = env.agent("waf", lambda ev: allow() if ev.uri == "/first" else None)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "60s",
                                           "connections": 1}})
    # Then its replies are known to carry ids.
    eq(fetch(d.port, target="/first").status, 200)
    a.events.clear()
    cs = [Raw(d.port) for _ in range(10)]
    for c in cs:
        c.request()
    wait_for(lambda: len(a.of("request_head")) == 10, "all are asked")
    a.stop()
    for c in cs:
        eq(c.response().status, 503)
    eq(d.metric("agent_denied_total", agent="waf", cause="closed"), 10)


def test_queue_overload(env):
    """More than the links and the queue take: overload, not a wait."""
    held = []
    env.agent("waf", lambda ev: allow() if ev.uri == "/first"
              else held.append(ev))
    d = env.proxy(env.origin().port, {"waf": {
        "timeout": "30s", "connections": 1, "max_connections": 1, "depth": 2,
        "queue": 3}})
    eq(fetch(d.port, target="/first").status, 200)
    d.wait_metric(0, "agent_in_flight", agent="waf")
    cs = [Raw(d.port) for _ in range(8)]
    for c in cs:
        c.request()
    d.wait_metric(3, "agent_failures_total", agent="waf", cause="overload")
    check(fetch(d.port).status == 503)
    answered = []

    def let_go():
        while held:
            ev = held.pop()
            answered.append(ev)
            ev.reply(allow())
        return len(answered) >= 5
    wait_for(let_go, "the queue moves on")
    got = sorted(c.response().status for c in cs)
    eq(got, [200] * 5 + [503] * 3)


def test_agent_down_says_why(env):
    """One line for each change of state, and one more for each other reason
    why it stays down: path, errno, owner, mode, and what to do."""
    path = env.path("waf.sock")
    d = env.proxy(env.origin().port, {"waf": {"socket": path}},
                  {"agents": ["waf"]}, ready=False)

    def lines():
        return [x for x in d.own_log().splitlines() if "agent_down" in x]
    wait_for(lambda: lines(), "a line")
    line = lines()[0]
    check("socket=%s" % path in line and "errno=2 " in line and
          "owner=none" in line and "advice=" in line, line)
    with open(path, "w"):
        pass                      # something else stands there
    wait_for(lambda: json.loads(d.admin("/agents").body)["agents"][0]
             ["instances"][0]["last_error"]["text"] != "No such file or "
             "directory", "another error")
    eq(len(lines()), 1)           # ECONNREFUSED is no news
    a = env.agent("waf")          # takes the path
    wait_for(lambda: "agent_up" in d.own_log(), "agent_up")
    a.stop()
    wait_for(lambda: len(lines()) == 2, "a second line")
    check("cause=closed" in lines()[1], lines()[1])
    tries = shake_wrongly(path)
    wait_for(lambda: len(tries) > 3, "more handshakes")
    eq(len(lines()), 3)
    check("cause=protocol" in lines()[2] and "owner=%d:%d mode=" %
          (os.getuid(), os.getgid()) in lines()[2], lines()[2])


def shake_wrongly(path):
    """A listener whose answer to the handshake is none: its connections."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(16)
    tries = []

    def serve():
        while True:
            c, _ = s.accept()
            c.recv(1 << 16)
            c.sendall(b"\0\0\0\2\x20x")
            tries.append(c)
    threading.Thread(target=serve, daemon=True).start()
    return tries
