"""Agents that go wrong under load: see chaos.py. Some of its cells are here, in
a shorter play: each fault once, the plainest ones twice."""
import chaos

PLAYS = {
    # name: fault, policy, two agents, encoding
    "kill9_deny": ("SIGKILL", "deny", False, "msgpack"),
    "kill9_allow": ("SIGKILL", "allow", True, "msgpack"),
    "kill_stop_deny": ("SIGSTOP", "deny", True, "msgpack"),
    "kill_stop_allow": ("SIGSTOP", "allow", False, "json"),
    "late": ("late by 10 %", "deny", False, "json"),
    "never_reads": ("never reads", "allow", True, "msgpack"),
    "midframe": ("closes mid-frame", "deny", False, "msgpack"),
    "garbage": ("garbage", "allow", True, "json"),
    "length_0": ("length 0", "deny", True, "json"),
    "length_huge": ("length 2^31", "allow", False, "msgpack"),
    "wrong_id": ("wrong id", "deny", True, "msgpack"),
    "two_answers": ("two answers", "deny", False, "json"),
    "reversed": ("reversed order", "deny", True, "msgpack"),
    "dripping": ("a byte per 100 ms", "allow", False, "json"),
    "removed": ("socket removed", "deny", False, "json"),
    "replaced": ("socket replaced", "deny", True, "msgpack"),
    "forbidden": ("no permission", "deny", False, "msgpack"),
    "backlog": ("backlog full", "allow", False, "msgpack"),
    "flapping": ("flapping", "deny", True, "json"),
}


def make(name, policy, two, encoding):
    fault = next(f for f in chaos.FAULTS if f.name == name)

    def test(env):
        chaos.Cell(fault, policy, two, encoding, 0.5).run(env)
    test.__module__ = __name__
    return test


for word, play in PLAYS.items():
    globals()["test_chaos_" + word] = make(*play)
