"""Faulty configs: -t and a start exit 2 with a clear line for each fault, a
reload is refused, and nothing has changed."""
import os
import re
import resource
import signal
import socket
import subprocess

from lib import Skip, check, eq, fetch, wait_for

GOOD = """listeners: [{ name: main, address: "127.0.0.1:%(port)d" }]
upstreams: { app: { servers: ["127.0.0.1:%(origin)d"] } }
agents: { waf: { socket: /run/waf.sock, on_failure: allow } }
routes: [{ upstream: app }]
admin: { address: "127.0.0.1:%(admin)d" }
workers: 1
log: { access: { path: "off" } }
"""


def more(text):
    return lambda: GOOD + text


def instead(old, new):
    def make():
        check(old in GOOD, old)
        return GOOD.replace(old, new)
    return make


def laughs():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += ["a%d: &a%d [%s]" % (i, i, ", ".join(["*a%d" % (i - 1)] * 10))
              for i in range(1, 10)]
    return GOOD + "\n".join(lines) + "\n"


# name, text, what one of the lines says.
FAULTS = (
    ("unknown key, near name", more("drain_timout: 3s\n"),
     r"drain_timout: .*drain_timeout"),
    ("unknown key, far from all", more("frobnicate: 1\n"), r"frobnicate: "),
    ("unknown key inside", instead("on_failure: allow", "on_failure: allow, "
                                   "dept: 3"), r"dept.*depth"),
    ("wrong unit", more("drain_timeout: 3 fortnights\n"),
     r"drain_timeout: .*ms"),
    ("size for a duration", more("drain_timeout: 64KiB\n"), r"drain_timeout:"),
    ("duration for a size", more("memory: { held_bytes: 5s }\n"),
     r"memory.held_bytes:"),
    ("out of range", instead("workers: 1", "workers: 257"), r"workers: .*256"),
    ("negative", instead("workers: 1", "workers: -1"), r"workers:"),
    ("duplicate key", more("workers: 2\n"), r"workers: "),
    ("duplicate name", instead("upstreams: { app:", "upstreams: { app: { "
                               "servers: ['127.0.0.1:1'] }, app:"), r"app"),
    ("dangling agent", instead("{ upstream: app }", "{ upstream: app, agents: "
                               "[wav] }"), r"wav.*waf"),
    ("dangling upstream", instead("{ upstream: app }", "{ upstream: ap }"),
     r"ap.*app"),
    ("cycle by alias", more("memory: &m { held_bytes: 1GiB, x: *m }\n"),
     r"alias|anchor|itself"),
    ("tab", more("memory:\n\theld_bytes: 1GiB\n"), r"tab|character"),
    ("10 MiB", lambda: GOOD + "#" * (10 << 20) + "\n", r"MiB|large|big"),
    ("billion laughs", laughs, r"alias|anchor"),
    ("invalid UTF-8", more("log: { level: \udcff\udcfe }\n"), r"UTF-8"),
    ("a NUL", more("memory: \0\n"), r"control|NUL|character"),
    ("UTF-16", lambda: GOOD.encode("utf-16").decode("utf-8",
                                                    "surrogateescape"),
     r"is UTF-16"),
    ("unfinished", more("memory: { held_bytes: 1GiB\n"), r"."),
    ("two documents", more("---\nworkers: 2\n"), r"document"),
    ("a list", lambda: "- a\n- b\n", r"map"),
    ("a word", lambda: "hello\n", r"map"),
    ("empty", lambda: "", r"is empty"),
    ("no listeners", instead("listeners:", "#listeners:"), r"listeners: "),
    ("port 0", instead("127.0.0.1:%(port)d", "127.0.0.1:0"), r"address: "),
    ("no port", instead("127.0.0.1:%(port)d", "127.0.0.1"), r"address: "),
    ("a name for an address", instead("127.0.0.1:%(port)d", "localhost:80"),
     r"address: "),
    ("relative socket", instead("/run/waf.sock", "run/waf.sock"), r"socket: "),
    ("long socket", instead("/run/waf.sock", "/" + "x" * 200), r"socket: "),
    ("no on_failure", lambda: GOOD.replace(", on_failure: allow", "").replace(
        "{ upstream: app }", "{ upstream: app, agents: [waf] }"),
     r"on_failure"),
    ("a map for a word", instead("workers: 1", "workers: { a: 1 }"),
     r"workers: "),
    ("deep", lambda: GOOD + "memory: " + "[" * 3000 + "]" * 3000 + "\n",
     r"deep|nest|memory"),
)
LINE = re.compile(r"^\S+:\d+:\d+: \S.*: \S.*$")


def write(path, text, values):
    for k, v in values.items():
        text = text.replace("%%(%s)d" % k, str(v))
    with open(path, "wb") as f:
        f.write(text.encode("utf-8", "surrogateescape"))


def limited():
    # A fault must not cost memory: asan needs address space, not this.
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))


def test_faulty_configs_checked(env):
    values = {"port": env.port(), "origin": env.port(), "admin": env.port()}
    path = env.path("faulty.yaml")
    write(path, GOOD, values)
    good = subprocess.run([env.binary("agentproxyd"), "-t", "-c", path],
                          capture_output=True, text=True)
    eq((good.returncode, good.stdout), (0, path + ": ok\n"), good.stderr)
    for name, make, want in FAULTS:
        write(path, make(), values)
        for argv in (["-t", "-c", path], ["-c", path]):
            p = subprocess.run([env.binary("agentproxyd")] + argv,
                               capture_output=True, text=True, timeout=30,
                               errors="replace", preexec_fn=limited)
            eq((p.returncode, p.stdout), (2, ""), name + ": " + p.stderr)
            lines = p.stderr.splitlines()
            check(lines and all(LINE.match(x) for x in lines),
                  "%s: %.300r" % (name, p.stderr))
            check(any(re.search(want, x) for x in lines),
                  "%s: %.300r" % (name, lines))
            check(len(lines) <= 10, "%s: %d lines" % (name, len(lines)))
        if os.environ.get("E2E_SHOW"):
            print("%s\n    %s" % (name, "\n    ".join(
                x.replace(path, "FILE") for x in lines)))


def test_faulty_configs_all_at_once(env):
    values = {"port": env.port(), "origin": env.port(), "admin": env.port()}
    path = env.path("faulty.yaml")
    write(path, GOOD + "a: 1\nb: 2\ndrain_timeout: x\n", values)
    p = subprocess.run([env.binary("agentproxyd"), "-t", "-c", path],
                       capture_output=True, text=True)
    eq(len(p.stderr.splitlines()), 3, p.stderr)


def test_faulty_configs_reloaded(env):
    """Each is refused; requests and the generation do not notice."""
    o = env.origin()
    d = env.start(env.config(o.port))
    values = {"port": d.port, "origin": o.port, "admin": d.admin_port}
    for i, (name, make, _) in enumerate(FAULTS, 1):
        write(d.file, make(), values)
        before = len(d.own_log())
        d.proc.send_signal(signal.SIGHUP)
        d.wait_metric(i, "config_reloads_total", result="refused")
        log = d.own_log()[before:]
        check("error config " in log and "result=refused" in log, name + log)
        check(len(log) < 5000, "%s: %d bytes of log" % (name, len(log)))
        eq(fetch(d.port).status, 200, name)
    eq(d.metric("config_generation"), 1)
    d.write()
    d.reload()
    eq(d.metric("config_generation"), 2)


def test_faulty_files(env):
    """Not a file that can be read."""
    for path in (env.path("none"), env.dir, "/proc/self/mem"):
        p = subprocess.run([env.binary("agentproxyd"), "-t", "-c", path],
                           capture_output=True, text=True)
        eq((p.returncode, len(p.stderr.splitlines())), (2, 1), p.stderr)
        check(path in p.stderr)


def test_faulty_surroundings(env):
    """A port in use, folders that are not there: a start exits 1, a reload is
    refused, and what else the new config has is not done."""
    o = env.origin()
    d = env.start(env.config(o.port))
    good = d.config
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    extra = env.port()
    wrong = [
        ("address", "127.0.0.1:%d" % taken.getsockname()[1], "in use"),
        ("address", "unix:" + env.path("none/x.sock"), "No such file"),
        ("address", "unix:" + d.file + "/x.sock", "Not a directory"),
        ("address", "unix:" + d.file, "in use"),
        ("address", "192.0.2.1:80", "assign"),
        ("access", env.path("none/access.log"), "No such file"),
        ("own", env.path("none/own.log"), "No such file"),
    ]
    for i, (what, value, why) in enumerate(wrong, 1):
        bad = dict(good, listeners=good["listeners"] + [
            {"name": "extra", "address": "127.0.0.1:%d" % extra}])
        if what == "address":
            bad["listeners"].append({"name": "bad", "address": value})
        elif what == "access":
            bad["log"] = dict(good["log"], access={"path": value})
        else:
            bad["log"] = dict(good["log"], path=value)
        d.config = bad
        d.write()
        before = len(d.own_log())
        d.proc.send_signal(signal.SIGHUP)
        d.wait_metric(i, "config_reloads_total", result="refused")
        log = d.own_log()[before:]
        check(why in log and value.replace("unix:", "") in log, log)
        eq(fetch(d.port).status, 200)
        try:
            socket.create_connection(("127.0.0.1", extra)).close()
            raise AssertionError("a refused config listens")
        except ConnectionRefusedError:
            pass
    eq(d.metric("config_generation"), 1)
    # The same at the start.
    d.stop()
    for what, value, why in wrong:
        bad = dict(good)
        if what == "address":
            bad["listeners"] = good["listeners"] + [
                {"name": "bad", "address": value}]
        elif what == "access":
            bad["log"] = dict(good["log"], access={"path": value})
        else:
            bad["log"] = dict(good["log"], path=value)
        d.config = bad
        d.write()
        p = subprocess.run([env.binary("agentproxyd"), "-c", d.file],
                           capture_output=True, text=True, timeout=20)
        eq(p.returncode, 1, p.stderr)
        check(why in p.stderr, p.stderr)
    d.config = good
    d.write()
    taken.close()


def test_faulty_unreadable_folder(env):
    """Of sockets: a listener's makes the reload a refused one, and a start end
    with 1; an agent's has a line that says what is wrong. And a config that
    may not be read."""
    locked = env.path("locked")
    os.mkdir(locked, 0)
    nobody = {}
    if os.getuid() == 0:                # root may look into everything
        os.chown(env.dir, 65534, 65534)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    o = env.origin()
    config = env.config(o.port, {"waf": {"socket": locked + "/waf.sock",
                                         "on_failure": "allow"}})
    try:
        d = env.start(config, spawn=nobody)
    except PermissionError:
        raise Skip("the build is not open to everybody")
    wait_for(lambda: "agent_down" in d.own_log(), "a line")
    line = next(x for x in d.own_log().splitlines() if "agent_down" in x)
    check("errno=13 " in line and locked in line and "advice=" in line, line)
    eq(fetch(d.port).status, 200)
    d.config = dict(config, listeners=config["listeners"] + [
        {"name": "bad", "address": "unix:%s/x.sock" % locked}])
    d.write()
    d.proc.send_signal(signal.SIGHUP)
    d.wait_metric(1, "config_reloads_total", result="refused")
    line = next(x for x in d.own_log().splitlines() if " bind " in x)
    check("listener=bad" in line and "errno=13" in line and
          "Permission denied" in line, line)
    eq(d.metric("config_generation"), 1)
    eq(fetch(d.port).status, 200)
    d.stop()
    run = [env.binary("agentproxyd"), "-c", d.file]
    p = subprocess.run(run, capture_output=True, text=True, timeout=20,
                       **nobody)
    eq(p.returncode, 1, p.stderr)
    os.chmod(d.file, 0)
    p = subprocess.run(run + ["-t"], capture_output=True, text=True, **nobody)
    eq((p.returncode, len(p.stderr.splitlines())), (2, 1), p.stderr)
    check("Permission denied" in p.stderr, p.stderr)
    d.config = config
    os.chmod(d.file, 0o644)
