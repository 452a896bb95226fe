"""A small FastCGI client for the tests: real sockets, nothing hidden.

Connection speaks records; request() is one whole request on a connection of its own.
Protocol: FastCGI Specification 1.0 (Open Market, 1996).
"""
import socket
import struct
from dataclasses import dataclass, field

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN = range(1, 12)
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
KEEP_CONN = 1
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)


def record(kind, request_id, body=b"", padding=0):
    return struct.pack("!BBHHBB", 1, kind, request_id, len(body), padding, 0) + body + b"\0" * padding


def begin(request_id, role=RESPONDER, flags=0):
    return record(BEGIN, request_id, struct.pack("!HB5x", role, flags))


def pair(name, value):
    out = b""
    for part in (name, value):
        out += struct.pack("!B", len(part)) if len(part) < 128 else struct.pack("!I", len(part) | 0x80000000)
    return out + name + value


def pairs(params):
    as_bytes = lambda x: x if isinstance(x, bytes) else str(x).encode()
    return b"".join(pair(as_bytes(k), as_bytes(v)) for k, v in params.items())


def stream(kind, request_id, data, chunk=65535):
    """A whole stream: its records and the empty one that ends it."""
    out = b"".join(record(kind, request_id, data[i:i + chunk]) for i in range(0, len(data), chunk))
    return out + record(kind, request_id)


def params_for(script, method="GET", body=b"", query="", extra=None):
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "test", "REQUEST_METHOD": method,
        "SCRIPT_FILENAME": script, "SCRIPT_NAME": "/" + str(script).rsplit("/", 1)[-1], "QUERY_STRING": query,
        "REQUEST_URI": "/" + str(script).rsplit("/", 1)[-1] + ("?" + query if query else ""), "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "DOCUMENT_ROOT": str(script).rsplit("/", 1)[0],
    }
    if method != "GET" or body:
        params["CONTENT_LENGTH"] = len(body)
        params["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    params.update(extra or {})
    return params


@dataclass
class Response:
    stdout: bytes = b""
    stderr: bytes = b""
    app_status: int = None
    protocol_status: int = None
    closed: bool = False
    records: list = field(default_factory=list)

    @property
    def head(self):
        return self.stdout.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self):
        return self.stdout.partition(b"\r\n\r\n")[2]

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def status(self):
        for line in self.head.split("\r\n"):
            if line.lower().startswith("status:"):
                return int(line.split()[1])
        return 200 if self.stdout else None

    def header(self, name):
        for line in self.head.split("\r\n"):
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    @property
    def complete(self):
        return self.protocol_status is not None


class Connection:
    """One connection to a FastCGI server: address is "host:port" or a path."""

    def __init__(self, address, timeout=10):
        if str(address).startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            target = str(address)
        else:
            host, _, port = str(address).rpartition(":")
            self.socket = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
            target = (host.strip("[]"), int(port))
        self.socket.settimeout(timeout)
        self.socket.connect(target)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def start(self, script, request_id=1, keep=False, body=b"", **how):
        self.send(begin(request_id, flags=KEEP_CONN if keep else 0) +
                  stream(PARAMS, request_id, pairs(params_for(script, body=body, **how))) + stream(STDIN, request_id, body))

    def read_record(self):
        """(type, id, content), or None at the end of the connection."""
        while True:
            if len(self.buffer) >= 8:
                _, kind, request_id, length, padding, _ = struct.unpack("!BBHHBB", self.buffer[:8])
                if len(self.buffer) >= 8 + length + padding:
                    content = self.buffer[8:8 + length]
                    self.buffer = self.buffer[8 + length + padding:]
                    return kind, request_id, content
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def finish(self, request_id=1):
        """Reads until the request's END_REQUEST or the end of the connection."""
        response = Response()
        out, err = [], []
        while True:
            got = self.read_record()
            if got is None:
                response.closed = True
                break
            kind, rid, content = got
            response.records.append((kind, rid, len(content)))
            if rid != request_id:
                continue
            if kind == STDOUT:
                out.append(content)
            elif kind == STDERR:
                err.append(content)
            elif kind == END:
                response.app_status, response.protocol_status = struct.unpack("!IB3x", content)
                break
        response.stdout, response.stderr = b"".join(out), b"".join(err)
        return response

    def request(self, script, keep=True, request_id=1, **how):
        self.start(script, request_id, keep, **how)
        return self.finish(request_id)

    def at_end(self):
        """True when the server closes without sending anything more."""
        return self.read_record() is None


def request(address, script, timeout=10, **how):
    with Connection(address, timeout) as connection:
        return connection.request(script, keep=False, **how)


def get_values(connection, names):
    connection.send(record(GET_VALUES, 0, pairs({name: "" for name in names})))
    return connection.read_record()
