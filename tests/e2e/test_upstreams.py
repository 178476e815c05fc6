"""Groups of servers: balancing, who is taken out, and who comes back."""
import json
import os
import socket
import threading

from agent import allow, set_header
from lib import LIMIT, Origin, Raw, check, eq, fetch, wait_for


def group(d, **more):
    d["upstreams"]["app"].update(more)
    return d


def state(d, name="app"):
    """{address: state} of /upstreams."""
    ups = json.loads(d.admin("/upstreams").text)["upstreams"]
    servers = [u for u in ups if u["name"] == name][0]["servers"]
    return {s["address"].split(":")[-1]: s["state"] for s in servers}


def wait_state(d, origin, want):
    wait_for(lambda: state(d)[str(origin.port)] == want,
             "server %d is %s" % (origin.port, want))


def named(i):
    def serve(x):
        x.read_body()
        x.answer(200, b"%d" % i)
    return serve


def who(d, n=1, **more):
    return [int(fetch(d.port, **more).body) for _ in range(n)]


def test_weights(env):
    a, b = env.origin(named(0)), env.origin(named(1))
    for balance in ("round_robin", "least_connections", "random", "hash"):
        c = env.config([a.port, b.port])
        c["upstreams"]["app"]["servers"] = [
            {"address": "127.0.0.1:%d" % a.port, "weight": 3},
            "127.0.0.1:%d" % b.port]
        more = {"hash_key": "path"} if balance == "hash" else {}
        d = env.start(group(c, balance=balance, **more))
        got = [who(d, target="/%d" % i)[0] for i in range(80)]
        if balance == "round_robin":
            eq(got.count(1), 20, balance)
        if balance != "least_connections":      # one at a time: all are idle
            check(5 < got.count(1) < 40, "%s: %r" % (balance, got))


def test_hash_keys(env):
    """What is the same goes to the same; what differs spreads."""
    o = [env.origin(named(i)) for i in range(4)]
    ports = [x.port for x in o]

    d = env.start(group(env.config(ports), balance="hash"))
    eq(len(set(who(d, 20))), 1, "one client")

    c = group(env.config(ports, listener={"trusted_proxies": ["127.0.0.1"]}),
              balance="hash", hash_key="client")
    d = env.start(c)
    by = {}
    for i in range(200):
        ip = "10.0.0.%d" % (i % 40)
        got = who(d, headers={"X-Forwarded-For": ip})[0]
        eq(by.setdefault(ip, got), got, ip)
    eq(set(by.values()), {0, 1, 2, 3}, "the true client counts")

    d = env.start(group(env.config(ports), balance="hash", hash_key="path"))
    eq(len(set(who(d, 10, target="/same"))), 1)
    eq(len({who(d, target="/x?%d" % i)[0] for i in range(20)}), 1,
       "the query does not count")
    eq({who(d, target="/%d" % i)[0] for i in range(60)}, {0, 1, 2, 3})

    d = env.start(group(env.config(ports), balance="hash",
                        hash_key="header X-Key"))
    eq(len(set(who(d, 10, headers={"x-key": "a"}))), 1)
    eq({who(d, headers={"X-Key": str(i)})[0] for i in range(60)},
       {0, 1, 2, 3})


def test_hash_by_agents_header(env):
    """A field that an agent sets is there before the server is chosen."""
    def handler(ev):
        if ev.kind == "request_head":
            return allow(request_headers=[set_header("X-Key", ev.uri)])
        return allow()
    env.agent("waf", handler)
    ports = [env.origin(named(i)).port for i in range(4)]
    d = env.start(group(env.config(ports, {"waf": {}}), balance="hash",
                        hash_key="header X-Key"))
    eq({who(d, target="/%d" % i)[0] for i in range(60)}, {0, 1, 2, 3})


class UnixOrigin(Origin):
    """The same on a Unix socket."""

    def __init__(self, path, serve):
        self.port, self.seen, self.errors = path, [], []
        self.serve, self.connections = serve, 0
        self.changed = threading.Condition()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(64)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(sock,),
                             daemon=True).start()


def unix_server(env, name, serve):
    env.things.append(UnixOrigin(env.path(name), serve))


def test_unix_server(env):
    unix_server(env, "app.sock", named(7))
    c = env.config(1)
    c["upstreams"]["app"]["servers"] = ["unix:" + env.path("app.sock")]
    d = env.start(c)
    eq(who(d, 3), [7, 7, 7])
    eq(d.access()[0]["server"], "unix:" + env.path("app.sock"))
    c = env.config(1)
    c["upstreams"]["app"]["servers"] = ["unix:" + env.path("none.sock")]
    eq(fetch(env.start(c).port).status, 502)


# ---- ejection ------------------------------------------------------------------

class Moody:
    """An origin that does as its mood is."""

    def __init__(self, env, i):
        self.mood, self.i = "well", i
        self.origin = env.origin(self.serve)
        self.port = self.origin.port

    def serve(self, x):
        x.read_body()
        if self.mood == "well":
            x.answer(200, b"%d" % self.i)
        elif self.mood == "hang up":
            return False
        elif self.mood == "nonsense":
            x.send("NONSENSE\r\n\r\n")
            return False
        elif self.mood == "silent":
            try:
                x.fill()
            except (EOFError, OSError):
                return False
        return None

    def count(self):
        return len(self.origin.seen)


def moody_pair(env, **more):
    a, b = Moody(env, 0), Moody(env, 1)
    c = env.config([a.port, b.port])
    return a, b, env.start(group(c, **more))


def post(d):
    return fetch(d.port, "POST", "/", body=b"x").status


def eject(d, a, b, failures=3):
    bad = [post(d) for _ in range(failures * 2)]
    eq(bad.count(502), failures, "failures until it is out")
    eq(state(d), {str(a.port): "down", str(b.port): "up"})
    return a.count()


def test_ejection_and_way_back(env):
    a, b, d = moody_pair(env, ejection={"failures": 3, "time": "700ms"})
    eq(sorted(set(who(d, 4))), [0, 1])
    a.mood = "nonsense"
    n = eject(d, a, b)
    eq(who(d, 6), [1] * 6, "it is left out")
    eq(a.count(), n)
    eq(d.own_log().count("upstream_down"), 1)
    check("reason=ejected" in d.own_log())
    # After a while it is on trial: one more failure takes it out again.
    wait_for(lambda: post(d) == 502, "the trial")
    eq([post(d) for _ in range(6)], [200] * 6)
    # And a good answer brings it back for good.
    a.mood = "well"
    wait_for(lambda: who(d) == [0], "it is asked again")
    wait_state(d, a, "up")
    check("upstream_up" in d.own_log())
    a.mood = "nonsense"
    eq([post(d) for _ in range(4)].count(502), 2, "below the limit again")
    eq(state(d)[str(a.port)], "up")


def test_ejection_causes(env):
    """Hanging up and silence count like nonsense."""
    for mood, bad in (("hang up", 502), ("silent", 504)):
        a, b, d = moody_pair(env, ejection={"failures": 2, "time": "1h"},
                             timeouts={"response": "200ms"})
        a.mood = mood
        got = [post(d) for _ in range(8)]
        eq((got.count(bad), got.count(200)), (2, 6), mood)


def test_ejection_off(env):
    a, b, d = moody_pair(env, ejection={"failures": 0})
    a.mood = "nonsense"
    eq([post(d) for _ in range(20)].count(502), 10)
    eq(state(d)[str(a.port)], "up")


def test_ejection_cap(env):
    """Never more than max_percent are out; by default half of them."""
    for percent, out in ((50, 2), (75, 3), (0, 0), (100, 4)):
        m = [Moody(env, i) for i in range(4)]
        d = env.start(group(env.config([x.port for x in m]), ejection={
            "failures": 1, "time": "1h", "max_percent": percent}))
        for x in m:
            x.mood = "nonsense"
        for _ in range(16):
            eq(post(d), 502)
        eq(list(state(d).values()).count("down"), out,
           "out at %d%%" % percent)


def test_single_server_stays(env):
    a = Moody(env, 5)
    d = env.start(group(env.config(a.port), ejection={"failures": 1}))
    a.mood = "nonsense"
    eq([post(d) for _ in range(5)], [502] * 5)
    a.mood = "well"
    eq(who(d), [5])


def test_client_is_no_failure(env):
    """What clients do to their requests is not the server's fault."""
    waiting = []

    def serve(x):
        if x.method == "POST":
            waiting.append(x)
            try:
                x.read_body()
            except (EOFError, OSError):
                return False
        elif x.target == "/big":
            x.answer(200, b"x" * 3000000)
            return None
        x.answer(200, b"ok")
        return None

    o = [env.origin(serve), env.origin(serve)]
    d = env.start(group(env.config([x.port for x in o], listener={
        "timeouts": {"body": "100ms", "send": "300ms"}}),
        ejection={"failures": 1, "time": "1h"}))
    for i in range(4):
        c = Raw(d.port)             # cut inside its body
        c.request("POST", "/", {"Content-Length": "10"}, b"12345")
        wait_for(lambda n=i: len(waiting) > n, "it is under way")
        c.close(hard=i % 2)
    for _ in range(2):
        c = Raw(d.port)             # its body stops
        c.request("POST", "/", {"Content-Length": "10"}, b"12345")
        eq(c.response().status, 408)
    for i in range(4):
        c = Raw(d.port)             # cut inside its answer
        c.request("GET", "/big")
        c.until(b"xxxx")
        c.close(hard=i % 2)
    c = Raw(d.port, rcvbuf=4096)    # reads nothing
    c.request("GET", "/big")
    d.wait_idle()
    eq(set(state(d).values()), {"up"})
    eq([fetch(d.port).status for _ in range(4)], [200] * 4)


def test_upload_refused_is_no_failure(env):
    """A server that ends a slow upload has lost its patience with the
    client."""
    def serve(x):
        if x.method == "POST":
            return False
        x.answer(200, b"ok")
        return None
    o = [env.origin(serve), env.origin(serve)]
    d = env.start(group(env.config([x.port for x in o]), ejection={
        "failures": 1, "time": "1h"}))
    for _ in range(4):
        c = Raw(d.port)
        c.request("POST", "/", {"Content-Length": "10"}, b"12345")
        eq(c.response().status, 502)
        c.close()
    eq(set(state(d).values()), {"up"})


# ---- checks ---------------------------------------------------------------------

def checks(kind, **more):
    return dict({"type": kind, "interval": "20ms", "timeout": "500ms",
                 "rise": 2, "fall": 3}, **more)


def test_check_http(env):
    """Who fails is out before any request finds out; and comes back."""
    seen, status = [], {0: 200}

    def serve(x):
        x.read_body()
        if x.target == "/health?deep=1":
            seen.append((x.method, x.get("host"), x.get("user-agent")))
            x.answer(status[0])
            return
        x.answer(200, b"0")
    a, b = env.origin(serve), env.origin(named(1))
    d = env.start(group(env.config([a.port, b.port]), check=checks(
        "http", path="/health?deep=1", host="check.example")))
    wait_for(lambda: len(seen) > 3, "checks")
    eq(set(seen), {("GET", "check.example", "agentproxyd")})
    eq(sorted(set(who(d, 4))), [0, 1])
    for bad in (500, 404):
        status[0] = bad
        wait_state(d, a, "down")
        check("reason=check" in d.own_log())
        eq(who(d, 4), [1] * 4)
        status[0] = 302
        wait_state(d, a, "up")
        eq(sorted(set(who(d, 4))), [0, 1])


def test_check_fall_and_rise(env):
    """So many in a row, not fewer."""
    answers, n = [], [0]

    def serve(x):
        x.read_body()
        if x.target != "/":
            x.answer(200, b"0")
            return
        n[0] += 1
        x.answer(answers.pop(0) if answers else 200)
    a, b = env.origin(serve), env.origin(named(1))
    d = env.start(group(env.config([a.port, b.port]),
                        check=checks("http", rise=4, fall=3)))

    def pattern(text):
        answers.extend({"b": 500, "g": 200}[c] for c in text)
        wait_for(lambda: not answers, "checks", 2 * LIMIT)
        m = n[0]
        wait_for(lambda: n[0] > m, "one more")
    pattern("bbgbbgbb")
    check("upstream_down" not in d.own_log(), "two in a row are enough")
    pattern("bbb")
    check("upstream_down" in d.own_log(), "three in a row are not")
    wait_state(d, a, "up")


def test_check_tcp(env):
    port = env.port()
    a = env.origin(named(1))
    d = env.start(group(env.config([port, a.port]), check=checks("tcp")))
    wait_for(lambda: state(d)[str(port)] == "down", "nobody is there")
    eq(who(d, 4), [1] * 4)
    eq(d.access()[-1]["attempts"], 1, "not even tried")
    b = Origin(port, named(2))
    env.things.append(b)
    wait_state(d, b, "up")
    eq(sorted(set(who(d, 4))), [1, 2])


def test_check_timeout_and_unix(env):
    """A server that takes connections and says nothing is down, too."""
    def silent(x):
        try:
            x.fill()
        except (EOFError, OSError):
            pass
        return False
    a = env.origin(silent)
    unix_server(env, "b.sock", named(3))
    c = env.config(a.port)
    c["upstreams"]["app"]["servers"].append("unix:" + env.path("b.sock"))
    d = env.start(group(c, check=checks("http", timeout="50ms")))
    wait_state(d, a, "down")
    check('error="timeout"' in d.own_log())
    eq(state(d)[env.path("b.sock")], "up")
    eq(who(d, 4), [3] * 4)


def test_check_all_down(env):
    """When nobody is well, trying is better than not."""
    def serve(x):
        x.answer(500 if x.target == "/" else 200, b"0")
    a = env.origin(serve)
    d = env.start(group(env.config([a.port, env.port()]),
                        check=checks("http")))
    wait_state(d, a, "down")
    eq(who(d, target="/x"), [0])


def test_check_reload(env):
    """Checks end with their group, and go on with one that stays."""
    n = [0]

    def serve(x):
        n[0] += 1
        x.answer(200, b"0")
    a, b = env.origin(serve), env.origin(named(1))
    d = env.start(group(env.config([a.port, b.port]), check=checks("http")))
    wait_for(lambda: n[0] > 2, "checks")
    d.config["routes"][0]["name"] = "other"
    d.reload()
    m = n[0]
    wait_for(lambda: n[0] > m + 3, "checks go on")
    del d.config["upstreams"]["app"]["check"]
    d.reload()
    d.wait_metric(1, "config_snapshots_live")
    m = n[0]
    eq(sorted(set(who(d, 8))), [0, 1])
    check(n[0] <= m + 5, "checks went on: %d" % (n[0] - m))


# ---- a server that dies and returns ----------------------------------------------

def server(env, port):
    tool = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__)))), "build/release/tests/load/origin")
    p = env.spawn([tool, "-l", "127.0.0.1:%d" % port, "-b", "3"])

    def there():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False
    wait_for(there, "the origin")
    return p


def dies_and_returns(env, **more):
    ports = [env.port() for _ in range(3)]
    procs = [server(env, p) for p in ports]
    d = env.start(group(env.config(ports, workers=2), **more))
    load = env.load(d, "-c", 32, "-r", 1500, "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(200)
    for i in range(6):
        victim = i % 3
        procs[victim].kill()
        procs[victim].wait()
        load.wait_progress(load.done + 400)
        procs[victim] = server(env, ports[victim])
        load.wait_progress(load.done + 400)
    s = load.stop()
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed GETs")
    check(d.metric("upstream_retries_total", upstream="app") > 0)


def test_dies_and_returns(env):
    dies_and_returns(env)


def test_dies_and_returns_checked(env):
    dies_and_returns(env, check=checks("tcp"), balance="least_connections")


# ---- routing by agents ------------------------------------------------------------

def test_agent_upstreams(env):
    """An agent sends a request to another group that the route lists."""
    def handler(ev):
        if ev.kind == "request_head" and ev.uri != "/":
            return allow(routing_metadata={"upstream": ev.uri[1:]})
        return allow()
    env.agent("waf", handler)
    a, b, c = (env.origin(named(i)) for i in range(3))
    conf = env.config(a.port, {"waf": {}}, {"agent_upstreams": ["other"]})
    for name, o in (("other", b), ("third", c)):
        conf["upstreams"][name] = {"servers": ["127.0.0.1:%d" % o.port]}
    d = env.start(conf)
    eq((who(d), who(d, target="/app"), who(d, target="/other")),
       ([0], [0], [1]))
    eq([line["upstream"] for line in d.access(3)], ["app", "app", "other"])
    for name in ("third", "nowhere"):
        eq(fetch(d.port, target="/" + name).status, 502, name)
    eq(d.metric("agent_failures_total", agent="waf", cause="protocol"), 2)
    eq(c.seen, [], "outside the list")


def choosers(env, first, second, policy="deny"):
    """Agents one and two, in this order, and upstreams app, other, third."""
    one, two = env.agent("one", first), env.agent("two", second)
    origins = [env.origin(named(i)) for i in range(3)]
    conf = env.config(origins[0].port,
                      {name: {"timeout": "10s", "on_failure": policy}
                       for name in ("one", "two")},
                      {"agent_upstreams": ["other", "third"]})
    for name, o in zip(("other", "third"), origins[1:]):
        conf["upstreams"][name] = {"servers": ["127.0.0.1:%d" % o.port]}
    return one, two, env.start(conf)


def test_agent_upstreams_of_two(env):
    """The later one in the route counts, whoever answers first."""
    one, two, d = choosers(
        env, lambda ev: None,
        lambda ev: allow(routing_metadata={"upstream": "third"}))
    c = Raw(d.port)
    c.request()
    held = one.wait("request_head")
    d.wait_metric(1, "agent_decisions_total", agent="two", decision="allow",
                  event="request_head")
    held.reply(allow(routing_metadata={"upstream": "other"}))
    eq(c.response().body, b"2")


def test_agent_upstream_not_applied(env):
    """Of an answer that can't be applied nothing is."""
    one, two, d = choosers(
        env, lambda ev: allow(routing_metadata={"upstream": "other"},
                              request_headers=[set_header("Host", "a/b")]),
        lambda ev: allow(), "allow")
    eq(who(d), [0])
    eq(d.metric("agent_bypass_total", agent="one", cause="protocol"), 1)
