"""Agents that dial in: registration and what is refused, one link for many
workers, links that come and go, reloads, hand-overs."""
import json
import os
import random
import signal
import socket
import struct
import threading
import time

from lib import LIMIT, Raw, check, eq, fetch, wait_for
from test_flow import check_laws

TOKEN = "sesame-open"
BLOCK = "on request_head path=/block reply block status=418 body=no\n"
KEYS = {"success", "error", "proxy_id", "proxy_version", "connection_id"}


def frame(kind, payload):
    data = payload if isinstance(payload, bytes) else \
        json.dumps(payload).encode()
    return struct.pack(">IB", len(data) + 1, kind) + data


class Dialled:
    """An agent by hand."""

    def __init__(self, address):
        if isinstance(address, int):
            self.sock = socket.create_connection(("127.0.0.1", address))
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address)
        self.sock.settimeout(LIMIT)

    def send(self, kind, payload):
        self.sock.sendall(frame(kind, payload))

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.sock.recv(n - len(got))
            if not more:
                raise EOFError("closed; had %r" % got)
            got += more
        return got

    def frame(self):
        n, kind = struct.unpack(">IB", self.exactly(5))
        return kind, json.loads(self.exactly(n - 1) or b"{}")

    def event(self):
        """The next frame that is no ping or question: these are answered."""
        while True:
            kind, v = self.frame()
            if kind == 0x41:
                self.send(0x42, v)
            elif kind in (0xe0, 0xe2, 0xf0):
                self.send(kind + 1, v)
            else:
                return kind, v

    def register(self, name="waf", token=TOKEN, go=False, **more):
        v = dict({"protocol_version": 2, "agent_id": name,
                  "capabilities": {}, "auth_token": token}, **more)
        self.send(3 if go else 1, v)
        return self.frame()

    def closed(self):
        """Closed in order: after the last frame comes the end, no reset."""
        eq(self.sock.recv(1), b"", "bytes after the refusal")
        return True

    def allow(self, event):
        ident = event.get("correlation_id") or \
            event["metadata"]["correlation_id"]
        self.send(0x20, {"version": 2, "decision": "allow", "audit": {
            "custom": {"correlation_id": ident}}})

    def close(self):
        self.sock.close()


class Scripted:
    """tests/scripted-agent that dials in, again and again."""

    def __init__(self, env, dialect="v2", script=BLOCK, name="waf",
                 token=TOKEN, links=1):
        self.log = env.path(name + ".jsonl")
        path = env.path(name + ".script")
        with open(path, "w") as f:
            f.write(script)
        self.proc = env.spawn(
            [env.binary("scripted-agent"), "--connect", env.path("door"),
             "--id", name, "--token", token, "--links", str(links), "-f",
             path, "--dialect", dialect], stdout=open(self.log, "a"))

    def frames(self, kind):
        with open(self.log) as f:
            lines = [json.loads(x) for x in f if x.endswith("}\n")]
        return [x for x in lines if x.get("type") == kind]

    def kill(self):
        self.proc.kill()
        self.proc.wait()


def setup(env, agent=None, ready=False, route=None, **more):
    o = env.origin()
    c = env.config(o.port, route=route, agent_listener={
        "address": "unix:" + env.path("door")}, **more)
    c["agents"] = {"waf": dict({"reverse": {"token": TOKEN},
                                "on_failure": "deny"}, **(agent or {}))}
    c["routes"][0].setdefault("agents", [])
    if not c["routes"][0]["agents"]:
        c["routes"][0]["agents"] = ["waf"]
    d = env.start(c, ready)
    wait_for(lambda: os.path.exists(env.path("door")), "the door")
    return o, d


def page(d):
    return json.loads(d.admin("/agents").body)["agents"][0]


def wait_links(d, n):
    wait_for(lambda: page(d)["instances"][0]["links_up"] == n,
             "%d links are up" % n)


def ask_all(d, n=24):
    """Over new connections, which the workers share among them."""
    for _ in range(n):
        eq(fetch(d.port, "GET", "/").status, 200)
        eq(fetch(d.port, "GET", "/block").status, 418)


# ---- registration ---------------------------------------------------------------

def test_reverse_v2(env):
    o, d = setup(env)
    mode = os.stat(env.path("door")).st_mode & 0o777
    eq(mode, 0o660)
    eq(fetch(d.port).status, 503, "without an agent")
    check(b"links in 0 of 1" in d.admin("/readyz").body)
    eq(page(d)["state"], "unhealthy")
    a = Dialled(env.path("door"))
    kind, v = a.register(metadata={"pod": "x\n\"1"})
    eq((kind, set(v), v["success"], v["error"]), (2, KEYS, True, None))
    check(v["connection_id"] and v["proxy_version"].startswith("agentproxyd/"))
    wait_for(d.is_ready, "ready")
    t = threading.Thread(target=lambda: a.allow(a.event()[1]))
    t.start()
    eq(fetch(d.port).status, 200)
    t.join()
    kind, v = a.event()
    eq((kind, v["status"]), (0x14, 200), "the end")
    a.allow(v)
    p = page(d)["instances"][0]
    eq((p["dialect"], p["encoding"], p["links_up"]), ("v2", "json", 1))
    eq(d.metric("agent_links", agent="waf", state="up"), 1)
    a.close()
    wait_links(d, 0)
    eq(fetch(d.port).status, 503)
    log = d.own_log()
    for what in ("agent_registered agent=waf", "agent_up agent=waf",
                 "agent_left agent=waf", "agent_down agent=waf"):
        check(what in log, "no line: " + what)
    check(TOKEN not in log and TOKEN not in d.admin("/config").text)
    eq(len(o.seen), 1)


def test_reverse_go(env):
    o, d = setup(env, {"config": {"paranoia": 2}})
    a = Dialled(env.path("door"))
    kind, v = a.register(go=True)
    eq((kind, v["accepted"], v["config"]), (4, True, {"paranoia": 2}))
    check(v["assigned_id"])

    def run():
        kind, v = a.event()
        a.send(0x20, {"request_id": v["request_id"], "decision": "allow"})
    t = threading.Thread(target=run)
    t.start()
    eq(fetch(d.port).status, 200)
    t.join()
    eq(a.event()[0], 0x30, "the end")
    eq(page(d)["instances"][0]["dialect"], "go")


def refused(env, send, kind=2, text=None, agent=None):
    a = Dialled(env.path("door"))
    v = send(a)
    got, answer = v if v else a.frame()
    eq(got, kind, "the answer's type")
    if kind == 2:
        eq(set(answer), KEYS)
        eq(answer["success"], False)
    else:
        eq(answer["accepted"], False)
    check(answer["error"], "no error text")
    if text:
        check(text in answer["error"], answer["error"])
    a.closed()
    a.close()
    return answer["error"]


def test_reverse_refused(env):
    """Each gets a frame, and only then the end."""
    o, d = setup(env)
    d.config["agents"]["dialled"] = {"socket": env.path("other"),
                                     "on_failure": "deny"}
    d.config["agents"]["old"] = {"reverse": True, "dialect": "v2",
                                 "on_failure": "deny"}
    d.reload()
    unknown = refused(env, lambda a: a.register("nobody"))
    for kind, go in ((2, False), (4, True)):
        eq(refused(env, lambda a: a.register("nobody", go=go), kind), unknown)
        eq(refused(env, lambda a: a.register(token="wrong-token", go=go),
                   kind), unknown, "wrong token")
        eq(refused(env, lambda a: a.register(token=None, go=go), kind),
           unknown, "no token")
        eq(refused(env, lambda a: a.register(token=TOKEN * 100, go=go), kind),
           unknown, "a very long token")
        eq(refused(env, lambda a: a.register("dialled", go=go), kind),
           unknown, "one that is dialled")
        refused(env, lambda a: a.register("a b", go=go), kind, "agent_id")
        refused(env, lambda a: a.register("", go=go), kind, "agent_id")
        refused(env, lambda a: a.register("x" * 65, go=go), kind, "agent_id")
        refused(env, lambda a: a.register(go=go, protocol_version=1), kind,
                "protocol_version")
        refused(env, lambda a: a.register(token=5, go=go), kind, "auth_token")
        refused(env, lambda a: a.send(3 if go else 1, b"{"), kind, "JSON")
        refused(env, lambda a: a.send(3 if go else 1, b"[]"), kind, "JSON")
        refused(env, lambda a: a.send(3 if go else 1, b""), kind, "JSON")
        refused(env, lambda a: a.send(3 if go else 1, b"{" * 65536), kind,
                "length")
    refused(env, lambda a: a.register("old", go=True), 4, "dialect")
    refused(env, lambda a: a.send(1, {"supported_versions": [2],
                                      "proxy_id": "edge"}), 2, "handshake")
    refused(env, lambda a: a.send(0x20, {}), 2, "registration")
    refused(env, lambda a: a.sock.sendall(b"GET / HTTP/1.1\r\n\r\n"), 2)
    refused(env, lambda a: a.sock.sendall(b"\0\0\0\0"), 2, "length")
    refused(env, lambda a: (a.sock.sendall(b"\0\0\1\0\3{"),
                            a.sock.shutdown(socket.SHUT_WR)) and None, 4)
    eq(fetch(d.port).status, 503)
    eq(page(d)["instances"][0]["links_up"], 0)


def test_reverse_too_late(env):
    """Silence is answered as well, in the dialect that is known by then."""
    o, d = setup(env)
    slow = []
    for first in (b"", b"\0\0\1\0\3", b"\0\0\1\0\1{"):
        a = Dialled(env.path("door"))
        a.sock.sendall(first)
        slow.append(a)
    for a, kind in zip(slow, (2, 4, 2)):
        got, v = a.frame()
        eq((got, v.get("success", v.get("accepted"))), (kind, False))
        check("in time" in v["error"])
        a.closed()


def test_reverse_too_many(env):
    o, d = setup(env, {"max_connections": 2})
    two = [Dialled(env.path("door")) for _ in range(2)]
    for a in two:
        check(a.register()[1]["success"])
    wait_links(d, 2)
    refused(env, lambda a: a.register(), 2, "too many")
    refused(env, lambda a: a.register(go=True), 4, "too many")
    two[0].close()
    wait_links(d, 1)
    check(Dialled(env.path("door")).register()[1]["success"], "room again")


def test_reverse_crowd(env):
    """The one that waited for longest makes way; who registers comes in."""
    o, d = setup(env)
    crowd = [Dialled(env.path("door")) for _ in range(80)]
    a = Dialled(env.path("door"))
    check(a.register()[1]["success"])
    got, v = crowd[0].frame()
    eq((got, v["success"]), (2, False))
    crowd[0].closed()


def test_reverse_one_byte_at_a_time(env):
    o, d = setup(env)
    a = Dialled(env.path("door"))
    for b in frame(1, {"protocol_version": 2, "agent_id": "waf",
                       "auth_token": TOKEN}):
        a.sock.sendall(bytes([b]))
        time.sleep(0.001)
    check(a.frame()[1]["success"])
    wait_links(d, 1)


def test_reverse_peer(env):
    """Only the user that the config wants."""
    o, d = setup(env, {"peer": {"uid": 12345}})
    refused(env, lambda a: a.register(), 2, "not accepted")
    d.config["agents"]["waf"]["peer"] = {"uid": os.getuid(),
                                         "gid": os.getgid()}
    d.reload()
    check(Dialled(env.path("door")).register()[1]["success"])


def test_reverse_tcp(env):
    port = env.port()
    o = env.origin()
    c = env.config(o.port, agent_listener={"address": "127.0.0.1:%d" % port},
                   workers=2)
    c["agents"] = {"waf": {"reverse": {"token": TOKEN}, "on_failure": "deny"}}
    c["routes"][0]["agents"] = ["waf"]
    d = env.start(c, False)
    a = Dialled(port)
    eq(a.register(token="wrong-token")[1]["success"], False)
    a.closed()
    a = Dialled(port)
    check(a.register(go=True, token=TOKEN)[1]["accepted"])
    wait_for(d.is_ready, "ready")


# ---- traffic --------------------------------------------------------------------

def scripted(env, dialect):
    """One link, three workers."""
    o, d = setup(env, workers=3)
    a = Scripted(env, dialect)
    wait_for(d.is_ready, "ready")
    ask_all(d)
    wait_for(lambda: len(a.frames("complete")) >= 48, "all ends")
    p = page(d)
    eq((p["state"], p["breaker"], p["in_flight"], p["queued"]),
       ("healthy", "closed", 0, 0))
    eq((p["instances"][0]["links_up"], p["instances"][0]["in_flight"]),
       (1, 0))
    m = d.metrics()
    eq(m.get("agent_events_total", agent="waf", event="request_head"), 48)
    eq(m.get("agent_decisions_total", agent="waf", event="request_head",
             decision="block"), 24)


def test_reverse_scripted_v2(env):
    scripted(env, "v2")


def test_reverse_scripted_go(env):
    scripted(env, "go")


def test_reverse_bodies(env):
    """Chunks, and what an agent makes of them, over a borrowed link."""
    script = ("on request_chunk match=EVIL reply block status=403\n"
              "on request_chunk path=/replace replace HELLO\n"
              "on response_head path=/late reply block status=451\n")
    o, d = setup(env, {"may_mutate": "request"}, route={"agents": [
        {"name": "waf", "request_body": "stream", "response_head": True}]},
        workers=4)
    a = Scripted(env, script=script)
    wait_for(d.is_ready, "ready")
    body = bytes(random.randrange(256) for _ in range(300000))
    for _ in range(12):
        eq(fetch(d.port, "POST", "/", body=body).status, 200)
        eq(o.seen[-1].body, body)
        eq(fetch(d.port, "POST", "/replace", body=b"abc").status, 200)
        eq(o.seen[-1].body, b"HELLO")
        eq(fetch(d.port, "POST", "/", body=b"an EVIL thing").status, 403)
        eq(fetch(d.port, "GET", "/late").status, 451)
    d.wait_idle()
    check_laws(d)
    wait_for(lambda: len(a.frames("complete")) >= 48, "all ends")


def test_reverse_killed_in_the_middle(env):
    """Each that waits is told, once, and by what its policy says."""
    o, d = setup(env, {"timeout": "30s", "on_failure": {
        "closed": "allow"}}, workers=3)
    a = Scripted(env, script="on request_head path=/hang no-reply\n" + BLOCK)
    wait_for(d.is_ready, "ready")
    ask_all(d)
    got = []

    def one():
        got.append(fetch(d.port, "GET", "/hang").status)
    threads = [threading.Thread(target=one) for _ in range(20)]
    for t in threads:
        t.start()
    d.wait_metric(20, "agent_in_flight")
    a.kill()
    for t in threads:
        t.join()
    eq(got, [200] * 20, "statuses")
    eq(d.metric("agent_failures_total", cause="closed"), 20)
    eq(d.metric("agent_bypass_total", cause="closed"), 20)
    d.wait_idle()
    check_laws(d)
    wait_links(d, 0)
    eq(fetch(d.port).status, 503)
    Scripted(env)
    wait_for(d.is_ready, "ready again")
    ask_all(d)
    check_laws(d)


def test_reverse_clients_go_and_time_out(env):
    """Tombstones on a borrowed link: late replies are dropped, none is taken
    for another one's."""
    script = ("on request_head path=/late delay 900ms; reply block status=418\n"
              "on request_head path=/gone delay 150ms\n" + BLOCK)
    o, d = setup(env, {"timeout": "600ms", "on_failure": {
        "timeout": "allow"}}, workers=3)
    a = Scripted(env, script=script, links=2)
    wait_for(d.is_ready, "ready")
    wait_links(d, 2)
    ask_all(d)

    def good():
        return fetch(d.port, "GET", "/block").status == 418
    for _ in range(3):
        eq(fetch(d.port, "GET", "/late").status, 200)
        wait_for(good, "good answers")
        gone = [Raw(d.port) for _ in range(3)]
        for c in gone:
            c.request(target="/gone")
        d.wait_metric(3, "agent_in_flight")
        for c in gone:
            c.close(hard=True)
        d.wait_idle()
        wait_for(good, "good answers")
    wait_for(lambda: d.metric("agent_in_flight") == 0, "none in flight")
    ask_all(d, 6)
    check_laws(d)
    check(d.metric("agent_failures_total", cause="timeout") >= 3)
    check(d.metric("agent_late_replies_total") >= 1)
    eq(d.metric("agent_failures_total", cause="protocol"), 0)


def test_reverse_more_links(env):
    """Borrowed until there is one of its own; each worker gets its share."""
    o, d = setup(env, workers=3)
    a = Scripted(env)
    wait_for(d.is_ready, "ready")
    ask_all(d, 6)
    b = Scripted(env, links=5, name="waf")
    wait_links(d, 6)
    log = d.own_log()
    eq([log.count("agent=waf dialect=v2 worker=%d" % w) for w in range(3)],
       [2, 2, 2])
    ask_all(d)
    b.kill()
    wait_links(d, 1)
    wait_for(d.is_ready, "all workers have one")
    ask_all(d)
    check_laws(d)
    eq(d.metric("agent_failures_total", cause="closed"), 0)


def test_reverse_no_ids(env):
    """One that answers without ids, and no completes: one event at a time."""
    o, d = setup(env, {"complete": "never", "timeout": "10s"}, workers=3)
    a = Scripted(env, script="on request_head no-id\non complete no-reply\n")
    wait_for(d.is_ready, "ready")
    got = []
    threads = [threading.Thread(target=lambda: got.append(
        fetch(d.port).status)) for _ in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(got, [200] * 24)
    wait_for(lambda: len(a.frames("complete")) == 24, "all ends")
    check_laws(d)


# ---- reloads, hand-overs ---------------------------------------------------------

def test_reverse_reload(env):
    """An unchanged agent keeps its link; a changed one is let go in peace."""
    o, d = setup(env, {"timeout": "20s"}, workers=3)
    a = Scripted(env, script="on request_head path=/slow delay 700ms\n" + BLOCK)
    wait_for(d.is_ready, "ready")
    d.config["routes"].append({"name": "more", "upstream": "app"})
    d.reload()
    ask_all(d)
    eq(d.own_log().count("agent_registered"), 1)
    got = []
    threads = [threading.Thread(target=lambda: got.append(
        fetch(d.port, "GET", "/slow").status)) for _ in range(6)]
    for t in threads:
        t.start()
    d.wait_metric(6, "exchanges_in_flight")
    d.config["agents"]["waf"]["queue"] = 999
    d.reload()
    for t in threads:
        t.join()
    eq(got, [200] * 6, "those that began before")
    wait_for(lambda: d.own_log().count("agent_registered") == 2, "it is back")
    wait_for(d.is_ready, "ready")
    ask_all(d)
    wait_for(lambda: d.metric("config_snapshots_live") == 1, "old configs go")
    eq(d.metric("agent_failures_total"), 0)
    check_laws(d)


def test_reverse_reload_under_a_long_exchange(env):
    """A changed agent comes back though an old exchange goes on for long."""
    o, d = setup(env, {"timeout": "20s"}, workers=1)
    d.config["routes"].insert(0, {"name": "long", "upstream": "app",
                                  "match": {"path_prefix": "/long"}})
    d.reload()
    a = Scripted(env, script=BLOCK)
    wait_for(d.is_ready, "ready")
    client = Raw(d.port)
    client.send(b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                b"\r\nab")
    d.wait_metric(1, "exchanges_in_flight")
    d.config["agents"]["waf"]["queue"] = 999
    d.reload()
    wait_for(lambda: d.own_log().count("agent_registered") == 2, "it is back")
    wait_for(d.is_ready, "ready")
    ask_all(d)
    eq(d.metric("config_snapshots_live"), 2, "the old one lives yet")
    client.send(b"cd")
    eq(client.response().status, 200)
    wait_for(lambda: d.metric("config_snapshots_live") == 1, "old configs go")
    check_laws(d)


def test_reverse_removed(env):
    """Removed while it is asked, by several workers: drained, then closed."""
    o, d = setup(env, {"timeout": "20s"}, workers=3)
    a = Scripted(env, script="on request_head path=/slow delay 700ms\n" + BLOCK)
    wait_for(d.is_ready, "ready")
    got = []
    threads = [threading.Thread(target=lambda: got.append(
        fetch(d.port, "GET", "/slow").status)) for _ in range(6)]
    for t in threads:
        t.start()
    d.wait_metric(6, "exchanges_in_flight")
    door = d.config.pop("agent_listener")
    agents = d.config.pop("agents")
    d.config["routes"][0]["agents"] = []
    d.reload()
    for t in threads:
        t.join()
    eq(got, [200] * 6)
    wait_for(lambda: d.metric("config_snapshots_live") == 1, "old configs go")
    wait_for(lambda: not os.path.exists(env.path("door")), "the door is gone")
    eq(fetch(d.port, "GET", "/block").status, 200)
    d.config.update(agent_listener=door, agents=agents)
    d.config["routes"][0]["agents"] = ["waf"]
    d.reload()
    wait_for(d.is_ready, "it is back")
    ask_all(d)


def test_reverse_door_moves(env):
    """To another socket, and to TCP."""
    o, d = setup(env)
    first = Dialled(env.path("door"))
    check(first.register()[1]["success"])
    d.config["agent_listener"] = {"address": "unix:" + env.path("other"),
                                  "mode": "0600"}
    d.reload()
    eq(os.stat(env.path("other")).st_mode & 0o777, 0o600)
    second = Dialled(env.path("other"))
    check(second.register()[1]["success"])
    wait_for(lambda: not os.path.exists(env.path("door")), "the old one")
    port = env.port()
    d.config["agent_listener"] = {"address": "127.0.0.1:%d" % port}
    d.reload()
    third = Dialled(port)
    check(third.register(go=True)[1]["accepted"])
    wait_links(d, 3)


def test_reverse_stop(env):
    """Who comes while we drain is told so, and not left alone."""
    o, d = setup(env, {"timeout": "20s"})
    a = Dialled(env.path("door"))
    check(a.register()[1]["success"])
    silent = Dialled(env.path("door"))
    t = threading.Thread(target=lambda: fetch(d.port))
    t.start()
    kind, v = a.event()
    eq(kind, 0x10)
    crowd = [Dialled(env.path("door")) for _ in range(20)]
    d.proc.send_signal(signal.SIGTERM)
    wait_for(lambda: "drain timeout" in d.own_log(), "the drain")

    def refusal():
        """The log is a moment ahead of the worker."""
        kind, v = crowd.pop().register(go=True)
        eq(kind, 4)
        return not v["accepted"] and v["error"]
    check("shutting down" in wait_for(refusal, "a refusal"))
    a.allow(v)
    t.join()
    got, v3 = silent.frame()
    eq((got, v3["success"]), (2, False))
    eq(d.proc.wait(LIMIT), 0)


def test_reverse_handover(env):
    """Two links: not one request is lost, and both end at the new process."""
    o, d = setup(env, {"timeout": "10s"}, workers=2)
    Scripted(env, links=2)
    wait_for(d.is_ready, "ready")
    wait_links(d, 2)
    wait_for(lambda: fetch(d.port).status == 200, "an answer")
    load = env.load(d, "-c", 8, "-r", 300, "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(50)
    for _ in range(3):
        d.handover()
        load.wait_progress(load.done + 100)
        wait_links(d, 2)
    s = load.stop()
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed requests")


def test_reverse_handover_of_one_link(env):
    """The new process gets it, although the old one still has clients."""
    o, d = setup(env, {"timeout": "10s"}, workers=2)
    Scripted(env)
    wait_for(d.is_ready, "ready")
    idle = Raw(d.port)
    idle.request()
    eq(idle.response().status, 200)
    old = d.handover(wait=False)
    wait_for(d.is_ready, "the new one is ready")
    check(old.poll() is None, "the old one has gone already")
    ask_all(d, 6)


def test_reverse_minute(env):
    """Workers, reloads, and agents that come and go: a minute with E2E_MINUTE
    set, else some seconds. Only what the policy says comes out of it."""
    seconds = 60 if os.environ.get("E2E_MINUTE") else 5
    o = env.fast_origin()
    c = env.config(o.port, workers=4, agent_listener={
        "address": "unix:" + env.path("door")})
    c["agents"] = {
        "waf": {"reverse": {"token": TOKEN}, "on_failure": "deny",
                "timeout": "5s"},
        "go": {"reverse": {"token": TOKEN}, "on_failure": "allow",
               "timeout": "5s"}}
    c["routes"][0]["agents"] = [{"name": "waf", "request_body": "stream"},
                                "go"]
    d = env.start(c, False)
    agents = [Scripted(env), Scripted(env, "go", name="go")]
    wait_for(d.is_ready, "ready")
    load = env.load(d, "-c", 32, "-r", 300, "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(50)
    dice = random.Random(7)
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n += 1
        what = dice.randrange(5)
        if what == 0:
            victim = dice.choice(agents)
            victim.kill()
            agents.remove(victim)
        elif what == 1:
            d.config["agents"]["waf"]["queue"] = 1000 + n
        elif what == 2:
            d.config["routes"][0]["budget"] = "%ds" % (20 + n % 10)
        if what < 3:
            d.write()
            d.proc.send_signal(signal.SIGHUP)
        if what > 2 or len(agents) < 2:
            name, dialect = dice.choice((("waf", "v2"), ("go", "go")))
            agents.append(Scripted(env, dialect, name=name,
                                   links=dice.randrange(1, 4)))
        if len(agents) > 6:
            agents.pop(0).kill()
        stranger = Dialled(env.path("door"))
        if n % 2:
            stranger.register(token="wrong-token")
        time.sleep(dice.random() * 0.2)
        stranger.close()
    s = load.stop()
    print("%d rounds, %d requests: %s" % (n, s["sent"], s["status"]))
    eq(set(s["status"]) - {"200", "503"}, set(), "statuses")
    eq(s["ok"], s["sent"], "answers")
    d.wait_idle()
    wait_for(lambda: d.metric("agent_in_flight") == 0, "none in flight")
    check_laws(d)
    wait_for(lambda: d.metric("config_snapshots_live") == 1, "old configs go")
