"""example.py SOCKET: refuses /admin, marks what it has seen, masks secrets."""
import sys

from agentproxy import Agent, allow, block


class Example(Agent):
    def on_request_head(self, ev):
        if ev.uri.startswith("/admin"):
            return block(403, "denied\n").rule("admin")
        return (allow().set_request_header("X-Checked-By", "example")
                .set_response_header("X-Checked-By", "example"))

    def on_request_chunk(self, ev):
        if b"secret" in ev.data:
            return allow().replace(ev.data.replace(b"secret", b"******"))


Example("example", "1.0").run(sys.argv[1])
