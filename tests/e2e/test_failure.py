"""Agents that never come, come late, or fail in one way: what is said then.
Those that go wrong under load: chaos.py."""
import json
import os
import signal
import socket
import threading
import time

from agent import allow
from lib import Raw, check, eq, fetch, wait_for


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


def test_never_there_in_time(env):
    """No answer was late: the link is what is missing, however short the
    agent's time is."""
    d = env.proxy(env.origin().port, {"waf": {"timeout": "50ms"}},
                  ready=False)
    r = fetch(d.port)
    eq((r.status, r.get("retry-after") is not None), (503, True))
    eq(d.access()[0]["agents"][0]["cause"], "connect")


def test_comes_late(env):
    d = env.proxy(env.origin().port, {"waf": {}}, ready=False)
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
