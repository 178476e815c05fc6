"""Agents for agentproxyd in Python: this file, and nothing else to install.

    class Mine(Agent):
        def on_request_head(self, ev):
            if ev.uri.startswith("/admin"):
                return block(403, "denied\\n")

    Mine("mine", "1.0").run("/run/mine.sock")

Each link of the proxy has a thread, so handlers of different exchanges may run
at the same time; those of one exchange never do. A handler that returns None
allows. One that raises is a failure: it is logged, and the proxy's on_failure
decides. The protocol is version 2, JSON.
"""
import base64
import json
import os
import signal
import socket
import struct
import sys
import threading
import traceback

HANDSHAKE, HANDSHAKE_REPLY, REPLY = 0x01, 0x02, 0x20
CANCEL, PING, PONG = 0x40, 0x41, 0x42
EVENTS = {0x10: "request_head", 0x11: "request_chunk", 0x12: "response_head",
          0x13: "response_chunk", 0x14: "complete", 0x17: "configure"}
NUMBERS = {"request_head": 1, "request_chunk": 2, "response_head": 3,
           "response_chunk": 4, "complete": 5, "configure": 8}
FRAME_MAX = 16 << 20


class Decision:
    """Made by allow(), block(), redirect() or challenge(); methods chain."""

    def __init__(self, decision):
        self.decision = decision
        self.edits = {"request_headers": [], "response_headers": []}
        self.audit = {"tags": [], "rule_ids": [], "confidence": None,
                      "reason_codes": []}
        self.more, self.routing, self.data = False, {}, None

    def edit(self, side, kind, **what):
        self.edits[side + "_headers"].append({kind: what})
        return self

    def set_request_header(self, name, value):
        return self.edit("request", "set", name=name, value=value)

    def add_request_header(self, name, value):
        return self.edit("request", "add", name=name, value=value)

    def remove_request_header(self, name):
        return self.edit("request", "remove", name=name)

    def set_response_header(self, name, value):
        return self.edit("response", "set", name=name, value=value)

    def add_response_header(self, name, value):
        return self.edit("response", "add", name=name, value=value)

    def remove_response_header(self, name):
        return self.edit("response", "remove", name=name)

    def replace(self, data):
        """Other bytes in place of the chunk; b"" drops it."""
        self.data = data
        return self

    def needs_more(self):
        self.more = True
        return self

    def upstream(self, name):
        self.routing["upstream"] = name
        return self

    def tag(self, *tags):
        self.audit["tags"] += tags
        return self

    def rule(self, *ids):
        self.audit["rule_ids"] += ids
        return self

    def reason(self, *codes):
        self.audit["reason_codes"] += codes
        return self

    def confidence(self, value):
        self.audit["confidence"] = value
        return self


def allow():
    return Decision("allow")


def block(status=403, body=None, headers=None):
    return Decision({"block": {"status": status, "body": body,
                               "headers": headers}})


def redirect(url, status=302):
    return Decision({"redirect": {"url": url, "status": status}})


def challenge(kind, **params):
    return Decision({"challenge": {"challenge_type": kind,
                                   "params": params}})


class Event:
    """One event. All that the proxy said is in .payload; of it are made:

    kind        request_head, request_chunk, response_head, response_chunk,
                complete, configure
    id          of the exchange: all its events have it
    exchange    a dict of yours that stays with the exchange
    method, uri, headers, client_ip     of a request's head; headers is a dict
                of lists, names in lower case
    status      of a response's head, and with complete
    data, index, is_last                of a chunk
    config      with configure
    """

    def __init__(self, kind, p, exchanges):
        self.kind, self.payload = kind, p
        if kind == "request_head":
            self.id = p["metadata"]["correlation_id"]
            self.method, self.uri = p["method"], p["uri"]
            self.client_ip = p["metadata"]["client_ip"]
        else:
            self.id = p["correlation_id"]
        if kind.endswith("_head"):
            self.headers = p["headers"]
        if kind in ("response_head", "complete"):
            self.status = p["status"]
        if kind.endswith("_chunk"):
            self.data = base64.b64decode(p["data"], validate=True)
            self.index, self.is_last = p["chunk_index"], p["is_last"]
        if kind == "configure":
            self.config, self.exchange = p["config"], {}
        else:
            self.exchange = exchanges.setdefault(self.id, {})

    def header(self, name, default=None):
        """The first value of a field; name in lower case."""
        return (self.headers.get(name) or [default])[0]


class Agent:
    """To be subclassed: the on_* methods decide."""

    def __init__(self, name, version="0"):
        self.name, self.version = name, version

    def on_request_head(self, ev):
        pass

    def on_request_chunk(self, ev):
        pass

    def on_response_head(self, ev):
        pass

    def on_response_chunk(self, ev):
        pass

    def on_complete(self, ev):
        """The exchange is over; the answer is ignored."""

    def on_configure(self, ev):
        """The proxy's `config` for this agent; block() refuses it."""

    def handlers(self):
        return [k for k in NUMBERS if getattr(type(self), "on_" + k)
                is not getattr(Agent, "on_" + k)]

    def run(self, path):
        """Serves until SIGTERM or SIGINT. In the main thread."""
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, lambda *_: sys.exit(0))
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.connect(path)
            sys.exit("%s: another agent lives there" % path)
        except ConnectionRefusedError:
            os.unlink(path)             # left over from a crash
        except FileNotFoundError:
            pass
        mask = os.umask(0o117)
        listener.close()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.umask(mask)
        listener.listen(128)
        try:
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=Link(self, sock).run,
                                 daemon=True).start()
        finally:
            os.unlink(path)


class Link:
    """One connection of the proxy."""

    def __init__(self, agent, sock):
        self.agent, self.sock, self.exchanges = agent, sock, {}
        self.file = sock.makefile("rb")

    def read(self):
        """A frame's type and payload; EOFError at the end."""
        head = self.file.read(5)
        if len(head) < 5:
            raise EOFError
        n, kind = struct.unpack(">IB", head)
        if not 1 <= n <= FRAME_MAX:
            raise ValueError("a frame of %d bytes" % n)
        payload = self.file.read(n - 1)
        if len(payload) < n - 1:
            raise EOFError
        return kind, payload

    def write(self, kind, payload):
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        self.sock.sendall(struct.pack(">IB", len(payload) + 1, kind) + payload)

    def run(self):
        try:
            self.handshake()
            while True:
                kind, payload = self.read()
                if kind == PING:
                    self.write(PONG, payload)
                elif kind != CANCEL:
                    self.on_event(EVENTS[kind], json.loads(payload))
        except (EOFError, ConnectionError):
            pass
        except Exception:
            # What cannot be read is not allowed: hanging up leaves it to the
            # proxy's on_failure.
            traceback.print_exc()
        finally:
            self.file.close()
            self.sock.close()

    def handshake(self):
        kind, payload = self.read()
        if kind != HANDSHAKE or 2 not in json.loads(payload)[
                "supported_versions"]:
            raise ValueError("no handshake of version 2")
        kinds = self.agent.handlers()
        self.write(HANDSHAKE_REPLY, {
            "protocol_version": 2, "success": True, "error": None,
            "encoding": "json", "capabilities": {
                "agent_id": self.agent.name, "name": self.agent.name,
                "version": self.agent.version,
                "supported_events": [NUMBERS[k] for k in kinds],
                "features": {
                    "streaming_body": any("chunk" in k for k in kinds),
                    "config_push": "configure" in kinds},
                "limits": {}}})

    def on_event(self, kind, payload):
        ev = Event(kind, payload, self.exchanges)
        try:
            d = getattr(self.agent, "on_" + kind)(ev) or allow()
            self.write(REPLY, self.reply(ev, d, ev.id))
        except (ConnectionError, EOFError):
            raise
        except Exception:
            # An answer without an id says: I could not judge this one.
            traceback.print_exc()
            self.write(REPLY, self.reply(ev, block(500), ""))
        if kind == "complete":
            del self.exchanges[ev.id]

    @staticmethod
    def reply(ev, d, correlation_id):
        out = {"version": 2, "decision": d.decision,
               "routing_metadata": d.routing, "needs_more": d.more,
               "audit": dict(d.audit,
                             custom={"correlation_id": correlation_id})}
        out.update(d.edits)
        if d.data is not None:
            side = ev.kind.split("_")[0]
            out[side + "_body_mutation"] = {
                "data": base64.b64encode(d.data).decode(),
                "chunk_index": ev.index}
        return out
