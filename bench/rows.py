"""The proxies that are compared: how each is configured and started. A row
that cannot be had says why and is left out."""
import os
import resource
import shutil
import socket
import time

from process import LOAD_CPU, PROXY_CPU, Process, wait_listening

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BENCH_BUILD", os.path.join(ROOT, "build"))
RELEASE = os.path.join(BUILD, os.environ.get("BENCH_FLAVOUR", "release"))
CACHE = os.environ.get("BENCH_CACHE", os.path.join(
    os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
    "agentproxyd-bench"))
# What a proxy may open, and how many clients that allows for.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
CONNS = min(10000, FILES // 2 - 400)


class Skip(Exception):
    pass


def tool(path):
    full = os.path.join(RELEASE, path)
    if not os.path.exists(full):
        raise Skip(f"{full} is not built")
    return full


def program(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if not path:
        raise Skip(f"{name} is not installed")
    return path


class World:
    """Directory, ports and the origin that all rows share."""
    stretch = 1     # how much slower than by itself a proxy runs here

    def __init__(self, directory):
        self.dir = directory
        self.next_port = 18000 + os.getpid() % 100 * 100
        self.processes = []
        self.origin_port = self.port()
        self.start([tool("tests/load/origin"), "-l",
                    f"127.0.0.1:{self.origin_port}", "-b", "3"], LOAD_CPU,
                   "origin", ("127.0.0.1", self.origin_port))

    @property
    def origin(self):
        return f"127.0.0.1:{self.origin_port}"

    def port(self):
        """One that nobody has; below those that connections get."""
        while True:
            self.next_port += 1
            with socket.socket() as s:
                try:
                    s.bind(("127.0.0.1", self.next_port))
                    return self.next_port
                except OSError:
                    continue

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def start(self, command, cpu, name, listening, seconds=10, env=None):
        p = Process(command, cpu, self.path(name + ".log"), env)
        self.processes.append(p)
        if not wait_listening(listening, p, seconds):
            raise Skip(f"{name} does not start: {p.last_words()}")
        return p

    def stop(self):
        for p in reversed(self.processes):
            p.stop()


class Row:
    """proxy: the process that is measured; agents: those that count; asked:
    how many heads each of them should see per request."""

    def __init__(self, name, proxy, port, agents=(), admin=None):
        self.name, self.proxy, self.port = name, proxy, port
        self.agents, self.admin = list(agents), admin


# ---- floors ------------------------------------------------------------------


def floor(world, name, *more):
    port = world.port()
    p = world.start([tool("bench/peers/floor"), "-l", f"127.0.0.1:{port}",
                     "-u", world.origin, *more], PROXY_CPU, name,
                    ("127.0.0.1", port))
    return Row(name, p, port)


def floor_plain(world):
    return floor(world, "floor")


def floor_256(world):
    return floor(world, "floor-256k", "-b", "262144")


def floor_hop(world):
    path = world.path("echo.sock")
    world.start([tool("bench/peers/floor"), "-E", path], LOAD_CPU, "echo",
                path)
    return floor(world, "floor-hop", "-e", path)


def floor_hops(count):
    """The round trips over that many connections in turn."""
    def start(world):
        name = f"floor-hop-{count}"
        path = world.path(name + ".sock")
        world.start([tool("bench/peers/floor"), "-E", path], LOAD_CPU,
                    name + "-echo", path)
        return floor(world, name, "-e", path, "-n", str(count))
    return start


# At how many requests a second rows with a slow agent are compared.
SLOW_RATE = 4000


def slow_us(count):
    """How late an answer is so that count of them are always under way."""
    return str(count * 1000000 // SLOW_RATE)


def slow_links(count):
    """Connections for count events and as many ends, of 1024 each."""
    return max(4, count * 5 // 2 // 1024 + 1)


def floor_slow(count):
    """The round trips are answered late."""
    def start(world):
        name = f"floor-slow-{count}"
        path = world.path(name + ".sock")
        world.start([tool("bench/peers/floor"), "-E", path, "-d",
                     slow_us(count)], LOAD_CPU, name + "-echo", path)
        return floor(world, name, "-e", path, "-n", str(slow_links(count)))
    return start


# ---- nginx -------------------------------------------------------------------

NGINX = """
daemon off; user root; worker_processes 1; pid {dir}/{name}.pid;
error_log {dir}/{name}.err; 
events {{ worker_connections {files}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_max_body_size 0; proxy_temp_path {dir}/{name}.tmp;
  client_body_temp_path {dir}/{name}.body;
  {buffers}
  upstream app {{ server {origin}; keepalive 1024;
                  keepalive_requests 1000000000; }}
  upstream auth {{ server unix:{auth}; keepalive 1024;
                   keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_request_buffering off;
    location / {{ {check} proxy_pass http://app; }}
    location = /auth {{
      internal; proxy_pass http://auth$request_uri;
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }}
  }}
}}
"""


def nginx(world, name, check="", buffers="", agents=()):
    port = world.port()
    conf = world.write(name + ".conf", NGINX.format(
        dir=world.dir, name=name, origin=world.origin, port=port,
        auth=world.path("auth.sock"), check=check, buffers=buffers,
        files=FILES))
    p = world.start([program("nginx"), "-c", conf, "-e",
                     world.path(name + ".err")], PROXY_CPU, name,
                    ("127.0.0.1", port))
    return Row(name, p, port, agents)


def nginx_plain(world):
    return nginx(world, "nginx")


def nginx_64(world):
    return nginx(world, "nginx-64k", buffers=(
        "proxy_buffers 8 64k; proxy_buffer_size 64k; "
        "proxy_busy_buffers_size 128k; client_body_buffer_size 64k;"))


def nginx_auth(world):
    path = world.path("auth.sock")
    agent = world.start([tool("bench/peers/auth"), "-l", path], LOAD_CPU,
                        "auth", path)
    return nginx(world, "nginx-auth", "auth_request /auth;", agents=[agent])


# ---- HAProxy -----------------------------------------------------------------

HAPROXY = """
global
  nbthread 1
  maxconn {conns}
  tune.bufsize {bufsize}
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
  option http-keep-alive
frontend front
  bind 127.0.0.1:{port} backlog 4096
  {spoe}
  default_backend app
backend app
  server app {origin} pool-max-conn 4096
backend spoe
  mode tcp
  server spoe unix@{socket}
"""

SPOE = """
[bench]
spoe-agent bench
  messages check
  option var-prefix bench
  timeout hello 1s
  timeout idle 600s
  timeout processing 1s
  use-backend spoe
spoe-message check
  args path=path
  event on-frontend-http-request
"""


def haproxy(world, name, bufsize=16384, spoe="", agents=()):
    port = world.port()
    conf = world.write(name + ".cfg", HAPROXY.format(
        port=port, origin=world.origin, bufsize=bufsize, spoe=spoe,
        socket=world.path("spoe.sock"), conns=CONNS))
    p = world.start([program("haproxy"), "-db", "-f", conf], PROXY_CPU, name,
                    ("127.0.0.1", port))
    return Row(name, p, port, agents)


def haproxy_plain(world):
    return haproxy(world, "haproxy")


def haproxy_64(world):
    return haproxy(world, "haproxy-64k", 65536)


def haproxy_spoe(world):
    path = world.path("spoe.sock")
    agent = world.start([tool("bench/peers/spoe"), "-s", path], LOAD_CPU,
                        "spoe", path)
    conf = world.write("spoe.conf", SPOE)
    return haproxy(world, "haproxy-spoe", spoe=(
        f"filter spoe engine bench config {conf}\n"
        "  http-request deny if { var(txn.bench.verdict) -m int gt 0 }"),
        agents=[agent])


# ---- ours --------------------------------------------------------------------

OURS = """
workers: 1
admin: {{ address: "127.0.0.1:{admin}" }}
log: {{ level: warn, access: {{ path: {log} }} }}
listeners:
  - name: front
    address: "127.0.0.1:{port}"
    max_connections: 20000
    timeouts: {{ idle: 600s }}
upstreams:
  app:
    servers: ["{origin}"]
    keepalive: 4096
agents:{agents}
routes:{routes}
"""


def allow_agent(world, name, encoding, *more):
    path = world.path(name + ".sock")
    p = world.start([tool("bench/peers/agent"), "-s", path, "-e", encoding,
                     *more], LOAD_CPU, name, path)
    return p, path


def ours_with(world, name, agents, routes, counting=(), log="off"):
    port, admin = world.port(), world.port()
    conf = world.write(name + ".yaml", OURS.format(
        port=port, admin=admin, origin=world.origin, log=log,
        agents=agents or " {}", routes=routes))
    p = world.start([tool("agentproxyd"), "-c", conf], PROXY_CPU, name,
                    ("127.0.0.1", port))
    wait_ready(admin)
    return Row(name, p, port, counting, admin)


def wait_ready(admin):
    import urllib.request
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            url = f"http://127.0.0.1:{admin}/readyz"
            if urllib.request.urlopen(url, timeout=1).status == 200:
                return
        except OSError:
            time.sleep(0.02)
    raise Skip("not ready")


AGENT = """
  {name}: {{ socket: {path}, timeout: {timeout}, on_failure: deny,
    queue: 20000, encoding: {encoding}, raw_body: {raw}{more} }}"""


def ours_agents(world, name, encoding, count=1, raw=False, use="", more="",
                late=(), timeout="5s"):
    counting, agents, used = [], "", []
    for i in range(count):
        p, path = allow_agent(world, f"{name}-agent{i}", encoding,
                              *(["-r"] if raw else []), *late)
        counting.append(p)
        agents += AGENT.format(name=f"a{i}", path=path, encoding=encoding,
                               timeout=timeout,
                               raw="true" if raw else "false", more=more)
        used.append("{ name: a%d%s }" % (i, use))
    routes = "\n  - { agents: [" + ", ".join(used) + "], upstream: app }"
    return ours_with(world, name, agents, routes, counting)


def ours(world):
    return ours_with(world, "ours", "", "\n  - upstream: app")


def ours_log(world):
    return ours_with(world, "ours-log", "", "\n  - upstream: app",
                     log=world.path("access.log"))


def ours_msgpack(world):
    return ours_agents(world, "ours-msgpack", "msgpack")


def ours_one_link(world):
    return ours_agents(world, "ours-one-link", "msgpack",
                       more=", connections: 1, max_connections: 1")


def ours_json(world):
    return ours_agents(world, "ours-json", "json")


def ours_three(world):
    return ours_agents(world, "ours-three", "msgpack", 3)


def ours_observed(world):
    return ours_agents(world, "ours-observed", "msgpack",
                       use=", mode: observe")


BODY = ", request_body: stream"


def ours_body_json(world):
    return ours_agents(world, "ours-body-json", "json", use=BODY)


def ours_body_msgpack(world):
    return ours_agents(world, "ours-body-msgpack", "msgpack", use=BODY)


def ours_body_raw(world):
    return ours_agents(world, "ours-body-raw", "msgpack", raw=True, use=BODY)


def ours_many(count):
    """count agents behind one socket, each named by a route of its own."""
    def start(world):
        name = f"ours-agents-{count}"
        p, path = allow_agent(world, name + "-agent", "msgpack")
        agents = "".join(
            f"\n  a{i}: {{ socket: {path}, on_failure: deny, connections: 1,"
            f" timeout: 5s, complete_wait: {500 * world.stretch}ms }}"
            for i in range(count))
        routes = "".join(
            f"\n  - {{ match: {{ path_prefix: /a{i}/ }}, agents: [a{i}],"
            f" upstream: app }}" for i in range(count))
        routes += "\n  - { agents: [a0], upstream: app }"
        row = ours_with(world, name, agents, routes, [p])
        row.paths = [f"/a{i}/x" for i in range(count)]
        return row
    return start


def ours_slow(count):
    """With one agent that answers late, and room for all on its links."""
    def start(world):
        n = slow_links(count)
        return ours_agents(world, f"ours-slow-{count}", "msgpack",
                           late=["-d", slow_us(count)], timeout="30s",
                           more=f", connections: {n}, max_connections: {n},"
                           " depth: 1024")
    return start


INFLIGHT = (10, 100, 1000, CONNS)

from rows_envoy import envoy_authz, envoy_plain, envoy_proc  # noqa: E402
from rows_zentinel import zentinel_agent, zentinel_plain  # noqa: E402

ROWS = {
    "floor": floor_plain, "floor-hop": floor_hop, "floor-256k": floor_256,
    "nginx": nginx_plain, "nginx-64k": nginx_64, "nginx-auth": nginx_auth,
    "haproxy": haproxy_plain, "haproxy-64k": haproxy_64,
    "haproxy-spoe": haproxy_spoe,
    "envoy": envoy_plain, "envoy-authz": envoy_authz,
    "envoy-proc": envoy_proc,
    "zentinel": zentinel_plain, "zentinel-agent": zentinel_agent,
    "ours": ours, "ours-msgpack": ours_msgpack, "ours-json": ours_json,
    "ours-one-link": ours_one_link,
    "ours-three": ours_three, "ours-observed": ours_observed,
    "ours-log": ours_log,
    "ours-body-json": ours_body_json, "ours-body-msgpack": ours_body_msgpack,
    "ours-body-raw": ours_body_raw,
    "floor-hop-1": floor_hops(1), "floor-hop-10": floor_hops(10),
    "floor-hop-100": floor_hops(100), "floor-hop-1000": floor_hops(1000),
    "ours-agents-1": ours_many(1), "ours-agents-10": ours_many(10),
    "ours-agents-100": ours_many(100), "ours-agents-1000": ours_many(1000),
    **{f"floor-slow-{n}": floor_slow(n) for n in INFLIGHT},
    **{f"ours-slow-{n}": ours_slow(n) for n in INFLIGHT},
}
