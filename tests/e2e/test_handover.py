"""SIGUSR2, inherited sockets, and the end of the listening ones."""
import os
import shutil
import signal
import socket
import threading
import time

from agent import allow
from lib import Raw, check, eq, fetch, wait_for


def slow(ev):
    if ev.kind != "request_head":
        return allow()
    threading.Timer(0.02, ev.reply, (allow(),)).start()
    return None


def test_handover_under_load(env):
    """Five new processes, one after the other: no failed request."""
    env.agent("waf", slow).keep = False
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {"timeout": "10s"}}, workers=2)
    load = env.load(d, "-c", 16, "-d", 3600, "-p", "/n/%", wait=False)
    load.wait_progress(50)
    for i in range(5):
        d.handover()
        load.wait_progress(load.done + 50)
    s = load.stop()
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed requests")
    eq(sorted(o.numbers()[0]), list(range(1, s["sent"] + 1)))


def test_handover_after_admin(env):
    """Closed connections of the admin port leave nothing behind that the
    talk with the new process could be taken for."""
    o = env.fast_origin()
    d = env.proxy(o.port)
    for i in range(3):
        c = Raw(d.admin_port)
        c.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n"
               b"Connection: close\r\n\r\n")
        eq(c.response().status, 200)
        check(c.closed(), "the admin port keeps a closed connection")
        d.handover()
        eq(fetch(d.port).status, 200)


def test_handover_new_connections(env):
    """A new connection for every request: none is reset."""
    o = env.fast_origin()
    d = env.proxy(o.port, workers=2)
    load = env.load(d, "-c", 8, "-r", 400, "-k", "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(50)
    for i in range(3):
        d.handover()
        load.wait_progress(load.done + 100)
    s = load.stop()
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed requests")


def test_handover_more_or_fewer_workers(env):
    """Sockets are made once per slot; workers share what there is."""
    d = env.proxy(env.origin().port, workers=1)
    for n in (3, 1, 2):
        d.config["workers"] = n
        d.write()
        d.handover()
        eq(d.metric("workers"), n)
        for _ in range(20):
            eq(fetch(d.port).status, 200)


def test_handover_keeps_idle_connection(env):
    """An idle client's next request is answered, as its last."""
    held = []
    env.agent("waf", lambda ev: held.append(ev) if ev.uri == "/held"
              else allow())
    d = env.proxy(env.origin().port, {"waf": {"timeout": "30s"}})
    idle, busy = Raw(d.port), Raw(d.port)
    idle.request()
    eq(idle.response().status, 200)
    busy.request(target="/held")
    wait_for(lambda: held, "the agent has it")
    old = d.handover(wait=False)
    wait_for(lambda: "drain timeout" in d.own_log(), "the drain")
    time.sleep(0.1)
    idle.request()
    r = idle.response()
    eq((r.status, r.get("connection")), (200, "close"))
    check(old.poll() is None)
    held[0].reply(allow())
    r = busy.response()
    eq((r.status, r.get("connection")), (200, "close"))
    eq(old.wait(20), 0)
    eq(fetch(d.port).status, 200)


def test_handover_fails(env):
    """What cannot start changes nothing; and then it can."""
    copy = env.path("agentproxyd")
    shutil.copy(env.binary("agentproxyd"), copy)
    d = env.start(env.config(env.origin().port), binary=copy)
    pid = d.proc.pid

    def replace(text, mode=0o755):
        os.rename(copy, copy + ".good") if not os.path.exists(
            copy + ".good") else None
        with open(copy + ".new", "w") as f:
            f.write(text)
        os.chmod(copy + ".new", mode)
        os.rename(copy + ".new", copy)

    def fails(n):
        d.proc.send_signal(signal.SIGUSR2)
        wait_for(lambda: d.own_log().count("result=failed") == n, "the line")
        eq((d.proc.pid, d.proc.poll()), (pid, None))
        eq(fetch(d.port).status, 200)
        eq(d.admin("/readyz").status, 200)

    replace("#!/bin/sh\nexit 3\n")
    fails(1)
    replace("no program")
    fails(2)
    os.rename(copy + ".good", copy)
    good = d.config
    d.config = dict(good, nonsense=1)
    d.write()
    fails(3)
    d.config = good
    d.write()
    d.handover()
    eq(fetch(d.port).status, 200)


def test_handover_unix_sockets(env):
    path = env.path("listen.sock")
    c = env.config(env.origin().port)
    c["listeners"].append({"name": "u", "address": "unix:" + path})
    d = env.start(c)
    for _ in range(2):
        d.handover()
        check(os.path.exists(path))
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        check(s.recv(100).startswith(b"HTTP/1.1 200"))
        s.close()
    d.stop()
    check(not os.path.exists(path))


def test_handover_and_reloads_under_load(env):
    """Ten reloads a second and five new processes: no failed request. One
    minute with E2E_MINUTE set, else some seconds."""
    seconds = 60 if os.environ.get("E2E_MINUTE") else 6
    env.agent("waf").keep = False
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {"timeout": "10s"}}, workers=2)
    rate = 2000 if "release" in env.build else 300
    load = env.load(d, "-c", 32, "-r", rate, "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(100)
    plain = d.config["routes"]
    more = [{"match": {"path_prefix": "/new/"}, "upstream": "app"}] + plain
    began, reloads, handovers = time.monotonic(), 0, 0
    olds = []
    while time.monotonic() < began + seconds:
        d.config["routes"] = plain if reloads % 2 else more
        d.write()
        d.proc.send_signal(signal.SIGHUP)
        reloads += 1
        if (time.monotonic() - began) * 5 / seconds >= handovers:
            olds.append(d.handover(wait=False))
            handovers += 1
        time.sleep(max(0, began + reloads / 10 - time.monotonic()))
    s = load.stop()
    print("%d requests, %d reloads, %d hand-overs, %d not ok, p99 %s us"
          % (s["sent"], reloads, handovers, s["sent"] - s["ok"],
             s.get("p99_us", sorted(r[3] for r in s["requests"])
                   [int(s["sent"] * .99)])))
    eq(handovers, 5)
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}),
       "failed requests")
    eq(sorted(o.numbers()[0]), list(range(1, s["sent"] + 1)))
    for old in olds:
        eq(old.wait(20), 0)
    check(d.own_log().count("event=reload result=ok") > reloads * 0.8)
    d.wait_idle()


def test_handover_and_reload(env):
    """A HUP while a new process starts is not forgotten."""
    d = env.proxy(env.origin().port)
    old = d.proc
    old.send_signal(signal.SIGUSR2)
    old.send_signal(signal.SIGHUP)
    wait_for(d.handovers, "the hand-over")
    eq(old.wait(20), 0)
    d.adopt()
    wait_for(lambda: d.metric("config_generation") == 2 or
             "event=reload result=ok generation=2" in d.own_log(), "the reload")


def activated(env, socks, names, config):
    """As systemd starts a service with sockets of its own."""
    def place():
        high = [os.dup(s.fileno()) for s in socks]
        high = [os.dup2(h, 100 + i) for i, h in enumerate(high)]
        for i, h in enumerate(high):
            os.dup2(h, 3 + i)
    # The shell's pid is the daemon's.
    sh = env.path("activate")
    with open(sh, "w") as f:
        f.write("#!/bin/sh\nLISTEN_PID=$$; export LISTEN_PID\nexec %s \"$@\"\n"
                % env.binary("agentproxyd"))
    os.chmod(sh, 0o755)
    return env.start(config, binary=sh, spawn={
        "env": dict(os.environ, LISTEN_FDS=str(len(socks)),
                    LISTEN_FDNAMES=":".join(names)),
        "preexec_fn": place, "close_fds": False})


def listening(address):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(address)
    s.listen(100)
    return s


def test_socket_activation(env):
    """By address and by name; what waits there at the end stays there."""
    c = env.config(env.origin().port, workers=2)
    port = int(c["listeners"][0]["address"].split(":")[1])
    admin = int(c["admin"]["address"].split(":")[1])
    other = env.port()
    c["listeners"].append({"name": "second", "address":
                           "127.0.0.1:%d" % env.port()})
    socks = [listening(("127.0.0.1", port)), listening(("127.0.0.1", other)),
             listening(("127.0.0.1", admin))]
    d = activated(env, socks, ["x", "second", "admin"], c)
    for _ in range(10):
        eq(fetch(port).status, 200)
        eq(fetch(other).status, 200)
    d.handover()
    eq(fetch(port).status, 200)
    eq(fetch(other).status, 200)
    d.stop()
    # We hold them still: nobody is refused.
    waiting = Raw(port)
    waiting.request()
    d2 = activated(env, socks, ["x", "second", "admin"], c)
    eq(waiting.response().status, 200)
    d2.stop()
    for s in socks:
        s.close()


def test_stop_serves_what_waits(env):
    """SIGTERM while connections wait to be accepted: they are served."""
    d = env.proxy(env.origin().port)
    d.proc.send_signal(signal.SIGSTOP)
    clients = [Raw(d.port) for _ in range(50)]
    for i, c in enumerate(clients):
        c.request(target="/%d" % i)
    d.proc.send_signal(signal.SIGTERM)
    d.proc.send_signal(signal.SIGCONT)
    for c in clients:
        eq(c.response().status, 200)
    eq(d.proc.wait(20), 0)


def test_stop_under_load_of_new_connections(env):
    """SIGTERM: each connection that was made is answered."""
    o = env.fast_origin()
    d = env.proxy(o.port, workers=2)
    load = env.load(d, "-c", 16, "-r", 1000, "-k", "-d", 600, "-p", "/n/%",
                    "-t", 5000, wait=False)
    load.wait_progress(500)
    d.proc.send_signal(signal.SIGTERM)
    eq(d.proc.wait(60), 0, "exit status")
    s = load.stop()
    lost = {}
    for _, result, _, _ in s["requests"]:
        lost[result] = lost.get(result, 0) + 1
    lost.pop("ok")
    lost.pop("connect", None)
    lost.pop("open", None)
    eq(lost, {}, "neither answered nor refused")


def test_handover_head_before_it(env):
    """The head of an answer went out before the hand-over, its end after it:
    the connection stays, for nobody has told the client otherwise."""
    rest = []

    def serve(x):
        x.read_body()
        if x.target != "/slow":
            x.answer(200, b"fast")
            return
        x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        rest.append(x)
        wait_for(lambda: len(rest) > 1, "the end")
        x.send(b"world")

    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request(target="/slow")
    head = c.head()
    eq((head.status, head.get("connection")), (200, None))
    old = d.handover(wait=False)
    wait_for(lambda: "drain timeout" in d.own_log(), "the drain")
    # Served by the new one, so the old one's workers have had their turn.
    eq(fetch(d.port).status, 200)
    time.sleep(0.1)
    rest.append(None)
    c.exactly(10)
    time.sleep(0.1)
    c.request(target="/next")
    r = c.response()
    eq((r.status, r.get("connection")), (200, "close"))
    eq(old.wait(20), 0)
