"""Zentinel, from its crate: `bench/get-peers zentinel` builds it, in half an
hour on two cores. Its agent is the one that ours gets, over the same
protocol; as built from its crate it offers JSON only."""
import os

CONFIG = """
schema-version "1.0"
system {{
    worker-threads 1
    max-connections 20000
}}
listeners {{
    listener "front" {{
        address "127.0.0.1:{port}"
        protocol "http"
    }}
}}
upstreams {{
    upstream "app" {{
        targets {{
            target {{ address "{origin}" weight=1 }}
        }}
        connection-pool {{
            max-connections 4096
            max-idle 1024
            idle-timeout-secs 60
        }}
        circuit-breaker {{
            failure-threshold 1000000000
        }}
    }}
}}
{agents}
routes {{
    route "all" {{
        priority 100
        matches {{
            path-prefix "/"
        }}
        upstream "app"
        {use}
    }}
}}
observability {{
    metrics {{ enabled #false; }}
    logging {{
        level "error"
        access-log {{ enabled #false; }}
    }}
}}
"""

AGENT = """
agents {{
    agent "a" {{
        type "custom"
        unix-socket "{socket}"
        events "request_headers"
        timeout-ms 5000
        failure-mode "closed"
        max-concurrent-calls 100000
    }}
}}
filters {{
    filter "check" {{
        type "agent"
        agent "a"
        phase "request"
        failure-mode "closed"
    }}
}}
"""


def zentinel(world, name, with_agent):
    import rows
    from process import PROXY_CPU
    command = os.path.join(rows.CACHE, "zentinel/bin/zentinel")
    if not os.path.exists(command):
        raise rows.Skip("no zentinel: run bench/get-peers zentinel")
    agents, counting, use = "", [], ""
    if with_agent:
        p, path = rows.allow_agent(world, name + "-agent", "any")
        agents, counting = AGENT.format(socket=path), [p]
        use = 'filters "check"'
    port = world.port()
    conf = world.write(name + ".kdl", CONFIG.format(
        port=port, origin=world.origin, agents=agents, use=use))
    p = world.start([command, "-c", conf], PROXY_CPU, name,
                    ("127.0.0.1", port), 30, env={"RUST_LOG": "error"})
    return rows.Row(name, p, port, counting)


def zentinel_plain(world):
    return zentinel(world, "zentinel", False)


def zentinel_agent(world):
    return zentinel(world, "zentinel-agent", True)
