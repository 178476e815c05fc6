"""Agents that observe: asked like others, but they decide and delay nothing."""
import time

from agent import allow, block
from lib import can_connect, check, eq, fetch, wait_for


def setup(env, handler, use=None, **agent):
    a = env.agent("waf", handler)
    o = env.origin()
    d = env.proxy(o.port, {"waf": dict(agent)}, {"agents": [
        dict({"name": "waf", "mode": "observe"}, **(use or {}))]})
    d.wait_metric(4, "agent_links", agent="waf", state="up")
    return a, o, d


def test_observer_decides_nothing(env):
    def handler(ev):
        if ev.kind == "request_head" and ev.uri == "/bad":
            return block(403, "no", request_headers=[
                {"set": {"name": "x-edit", "value": "1"}}])
        return allow()
    a, o, d = setup(env, handler)
    eq(fetch(d.port, target="/bad").body, b"GET /bad\n")
    eq(fetch(d.port, target="/good").status, 200)
    wait_for(lambda: len(a.of("complete")) == 2, "both are complete")
    eq([x.get("x-edit") for x in o.seen], [None, None])
    d.wait_metric(1, "agent_disagreements_total", agent="waf",
                  event="request_head")
    eq(d.metric("agent_decisions_total", agent="waf", event="request_head",
                decision="block"), 1)
    line = [x for x in d.access() if x["target"] == "/bad"][0]
    eq((line["status"], line["ended_by"], line["decided_by"], line["bypass"],
        line["agents"][0]["verdict"]), (200, "done", None, False, "block"))


def test_observer_delays_nothing(env):
    held = []
    a, o, d = setup(env, held.append, timeout="20s")
    start = time.monotonic()
    eq(fetch(d.port).status, 200)
    check(time.monotonic() - start < 5, "it waited for the observer")
    d.wait_metric(0, "exchanges_in_flight")
    # Its answer still counts, and is logged, when it comes.
    eq(open(d.access_path).read(), "")
    held[0].reply(block(403))
    eq(d.access()[0]["agents"][0]["verdict"], "block")
    check(d.access()[0]["us"]["total"] < 5e6)


def test_observer_gone(env):
    """Without the agent everything goes on, and the proxy is ready."""
    o = env.origin()
    d = env.proxy(o.port, {"waf": {}}, {"agents": [
        {"name": "waf", "mode": "observe"}]})
    for i in range(20):
        eq(fetch(d.port).status, 200)
    eq(d.metric("agent_bypass_total", agent="waf", cause="connect"), 0)
    eq(d.metric("agent_failures_total", agent="waf"), 0)


def test_observer_fails(env):
    """Its failure is no failure of a request: interface.md's laws hold."""
    a, o, d = setup(env, lambda ev: None, {"timeout": "50ms"})
    eq(fetch(d.port).status, 200)
    eq(d.access()[0]["agents"][0]["cause"], "timeout")
    m = d.metrics()
    def v(name, **labels):
        return m.get("agent_" + name, agent="waf", **labels)
    eq((v("failures_total"), v("bypass_total"), v("denied_total")), (0, 0, 0))
    eq(v("unheard_total", cause="timeout"), 1)
    eq(v("events_total", event="request_head"),
       v("decisions_total") + v("abandoned_total"))


def test_observer_sees_bodies(env):
    a, o, d = setup(env, lambda ev: allow(), {
        "request_body": "stream", "response_body": "stream"})
    body = bytes(range(256)) * 900
    r = fetch(d.port, "POST", "/", body=body)
    eq(r.status, 200)
    wait_for(lambda: a.of("complete"), "the end")
    eq(b"".join(e.data for e in a.of("request_chunk")), body)
    eq([e.last for e in a.of("request_chunk")].count(True), 1)
    eq(b"".join(e.data for e in a.of("response_chunk")), r.body)


def test_observer_is_shed(env):
    """A body that comes faster than it reads is not held back for it."""
    held = []

    def handler(ev):
        if ev.kind == "request_head":
            return allow()
        held.append(ev)
    a, o, d = setup(env, handler, {"request_body": "stream"}, timeout="20s")
    body = b"x" * (1 << 20)
    eq(fetch(d.port, "POST", "/", body=body).status, 200)
    check(len(held) <= 1, "%d chunks were asked at once" % len(held))
    for ev in held:
        ev.reply(allow())
    chunk = d.access()[0]["agents"][1]
    eq((chunk["event"], chunk["verdict"], chunk["cause"]),
       ("request_chunk", "skipped", "overload"))


def test_observer_sample(env):
    a, o, d = setup(env, lambda ev: allow(), {"sample": "20%"})
    for i in range(300):
        eq(fetch(d.port).status, 200)
    n = d.metric("agent_events_total", agent="waf", event="request_head")
    check(20 < n < 110, "%d of 300 were observed" % n)


def test_observer_beside_enforcer(env):
    """Agreement is no disagreement, whatever the word."""
    a = env.agent("waf", lambda ev: block(403))
    b = env.agent("auth", lambda ev: block(401) if ev.uri != "/c" else allow())
    d = env.proxy(env.origin().port, {"waf": {}, "auth": {}}, {"agents": [
        {"name": "waf", "mode": "observe"}, "auth"]})
    eq(fetch(d.port, target="/a").status, 401)
    eq(fetch(d.port, target="/c").status, 200)
    d.wait_metric(1, "agent_disagreements_total", agent="waf",
                  event="request_head")


def test_observer_outlives_the_listener(env):
    held = []
    env.agent("waf", held.append)
    config = env.config(env.origin().port, {"waf": {"timeout": "20s"}}, {
        "agents": [{"name": "waf", "mode": "observe"}]})
    config["listeners"].append({"name": "other", "address":
                                "127.0.0.1:%d" % env.port()})
    d = env.start(config)
    d.wait_metric(4, "agent_links", agent="waf", state="up")
    port = int(config["listeners"][1]["address"].split(":")[1])
    eq(fetch(port).status, 200)
    del config["listeners"][1]
    d.reload()
    wait_for(lambda: not can_connect(port), "the listener is gone")
    held[0].reply(allow())
    eq(d.access()[0]["listener"], "other")
