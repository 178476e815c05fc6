"""The bars that the proxy is held to, judged on the results of one run."""
import statistics


def ratio(results, profile, row, to, key="cpu"):
    """Median of the ratios of the same round; None where a row is missing."""
    p = results.get(profile, {})
    if not p.get(row) or not p.get(to):
        return None
    return statistics.median(
        a[key] / b[key] for a, b in zip(p[row], p[to]) if b[key])


def added(results, row, to, key):
    p = results.get("latency", {})
    if not p.get(row) or not p.get(to):
        return None
    return statistics.median(a[key] - b[key]
                             for a, b in zip(p[row], p[to]))


def best(*values):
    known = [v for v in values if v is not None]
    return max(known) if known else None


def quotient(a, b):
    return a / b if a is not None and b and b > 0 else None


def growth(results, few, many):
    """How much more the ratio to the floor is with many of them."""
    return quotient(*(ratio(results, f"inflight{n}", f"ours-slow-{n}",
                            f"floor-slow-{n}") for n in (many, few)))


def agent_share(results):
    """Microseconds that one agent adds."""
    p = results.get("tiny", {})
    if not p.get("ours-msgpack") or not p.get("ours"):
        return None
    return statistics.median(a["cpu"] - b["cpu"] for a, b in
                             zip(p["ours-msgpack"], p["ours"]))


def agents_growth(results):
    """From 1 agent to 1000, beyond what bare round trips grow by."""
    return quotient(
        ratio(results, "agents", "ours-agents-1000", "ours-agents-1"),
        ratio(results, "agents", "floor-hop-1000", "floor-hop-1"))


def most_in_flight(results):
    return max((int(p[8:]) for p in results if p.startswith("inflight")),
               default=0)


def all_bars(results):
    def r(profile, row, to="floor"):
        return ratio(results, profile, row, to)

    hop50, hop99 = (added(results, "floor-hop", "floor", k)
                    for k in ("p50", "p99"))
    ours50, ours99 = (added(results, "ours-msgpack", "ours", k)
                      for k in ("p50", "p99"))
    idle = results.get("idle", {})
    return [
        ("one agent (MessagePack), tiny / floor", r("tiny", "ours-msgpack"),
         "<=", 1.25),
        ("the same / nginx without agent",
         r("tiny", "ours-msgpack", "nginx"), "<", 1),
        ("the same / HAProxy without agent",
         r("tiny", "ours-msgpack", "haproxy"), "<", 1),
        ("one agent, browser / floor", r("browser", "ours-msgpack"), "<=",
         1.30),
        ("no agent, tiny / floor", r("tiny", "ours"), "<=", 1.12),
        ("agent hop's own share, us", agent_share(results), "<=", 4),
        ("one agent (JSON), tiny / floor", r("tiny", "ours-json"), "<=",
         1.35),
        ("three agents / one", r("tiny", "ours-three", "ours-msgpack"), "<=",
         1.30),
        ("HAProxy + SPOE / ours with agent",
         r("tiny", "haproxy-spoe", "ours-msgpack"), ">=", 1.2),
        ("Envoy ext_proc / ours with agent",
         r("tiny", "envoy-proc", "ours-msgpack"), ">=", 5),
        ("Zentinel + agent / ours with agent",
         r("tiny", "zentinel-agent", "ours-msgpack"), ">=", 4.5),
        ("POST 1 MiB, no agent / nginx at its best",
         best(r("post1m", "ours", "nginx"), r("post1m", "ours", "nginx-64k")),
         "<=", 1),
        ("POST 1 MiB, no agent / HAProxy at its best",
         best(r("post1m", "ours", "haproxy"),
              r("post1m", "ours", "haproxy-64k")), "<=", 1),
        ("GET 1 MiB, no agent / nginx at its best",
         best(r("get1m", "ours", "nginx"), r("get1m", "ours", "nginx-64k")),
         "<=", 1),
        ("GET 1 MiB, no agent / HAProxy at its best",
         best(r("get1m", "ours", "haproxy"),
              r("get1m", "ours", "haproxy-64k")), "<=", 1),
        ("POST 1 MiB through a raw agent / without",
         r("post1m", "ours-body-raw", "ours"), "<=", 1.5),
        ("bytes per idle connection", idle.get("ours"), "<=", 600),
        ("added p50 / bare hop's", quotient(ours50, hop50), "<=", 1.3),
        ("added p99 / bare hop's", quotient(ours99, hop99), "<=", 1.3),
        ("1000 agents / 1, beyond the floor + hop's own growth",
         agents_growth(results), "<=", 1.1),
        ("in flight: most / 10, beyond the floor's own growth",
         growth(results, 10, most_in_flight(results)), "<=", 1.1),
    ]


def report(results):
    print("\n### bars\n\n| what | measured | bar | verdict |\n|---|---|---|---|")
    for what, value, sign, bar in all_bars(results):
        if value is None:
            continue
        ok = {"<=": value <= bar, "<": value < bar, ">=": value >= bar}[sign]
        print(f"| {what} | {value:.3f} | {sign} {bar} | "
              f"{'met' if ok else 'MISSED'} |")
