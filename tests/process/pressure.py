"""What a hard life does to a pool, seen from outside: its slowest ping, the memory of its dispatcher, who is still connected."""
import hashlib
import re
import select
import socket
import threading
import time
from pathlib import Path

import fcgi
from fcgi import PARAMS, STDIN, begin, pairs, params_for, record, stream
from server import TQFPM, wait_for

MIB = 1 << 20
SANITIZED = b"__asan_init" in Path(TQFPM).read_bytes()  # it keeps what was freed: memory says nothing then
SLEEP = "usleep((int)($_GET['ms'] ?? 0) * 1000); echo getmypid();"
UPLOAD = "$b = file_get_contents('php://input'); echo strlen($b), ' ', md5($b);"


def local(folder, **settings):
    """One pool with one worker on a Unix socket."""
    return {"www": {"listen": folder / "www.sock", "listen.mode": "0666", "pm.max_children": 1, **settings}}


def said_of(body):
    """What UPLOAD says."""
    return f"{len(body)} {hashlib.md5(body).hexdigest()}"


def whole(script, request_id=1, keep=False, body=b"", end=True, **how):
    """The bytes of a request; without its end if that is to be left out."""
    stdin = stream(STDIN, request_id, body)
    return (begin(request_id, flags=fcgi.KEEP_CONN if keep else 0) + stream(PARAMS, request_id, pairs(params_for(script, body=body, **how))) +
            (stdin if end else stdin[:-8]))


def page(uri, query="", keep=True):
    """The bytes of a request for one of tqfpm's own pages."""
    return whole(uri, keep=keep, query=query, extra={"SCRIPT_NAME": uri, "REQUEST_URI": uri})


def busy(server, count=1):
    wait_for(lambda: server.status()["active processes"] == count, f"{count} busy workers")


def queued(server, count=1):
    wait_for(lambda: server.status()["listen queue"] == count, f"{count} waiting requests")


class Later(threading.Thread):
    """A call that runs while the test goes on; result() is what it returned, or the error that ended it."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.got = call, None
        self.start()

    def run(self):
        try:
            self.got = self.call()
        except Exception as error:  # the test looks at it
            self.got = error

    def result(self, timeout=15):
        self.join(timeout)
        return TimeoutError("it still runs") if self.is_alive() else self.got


class Pings(threading.Thread):
    """Asks the ping page all the time, each time on a new connection; `slowest` is in seconds."""

    def __init__(self, server, pool="www"):
        super().__init__(daemon=True)
        self.server, self.pool, self.slowest, self.count, self.failed = server, pool, 0.0, 0, None
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            started = time.monotonic()
            try:
                answer = fcgi.request(self.server.address(self.pool), "/ping", 6, extra={"SCRIPT_NAME": "/ping", "REQUEST_URI": "/ping"})
                assert answer.text == "pong", answer
            except (OSError, AssertionError) as error:
                self.failed = f"{error} after {time.monotonic() - started:.1f} s"
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.count += 1
            self.done.wait(0.005)

    def __enter__(self):
        self.start()
        wait_for(lambda: self.count >= 10 or self.failed, "the first pings")
        self.slowest = 0.0
        return self

    def during(self, seconds):
        """Goes on for a while: what is looked for may come a moment after its cause."""
        self.done.wait(seconds)

    def __exit__(self, *_):
        self.done.set()
        self.join(15)
        assert self.failed is None, "a ping: " + self.failed


class Memory:
    """How much a process has grown since this was made, at its highest, in bytes."""

    def __init__(self, process):
        self.process = process
        with open(f"/proc/{process.pid}/clear_refs", "w") as clear:
            clear.write("5")  # VmHWM begins anew
        self.before = self.read("VmRSS")

    def read(self, key):
        return int(self.process.status(key).split()[0]) * 1024

    @property
    def growth(self):
        return self.read("VmHWM") - self.before

    def stayed_below(self, limit, more=""):
        assert SANITIZED or self.growth < limit, f"{self.growth / MIB:.0f} MiB more {more}"


def offer(connection, data):
    """Sends to a peer who may have had enough of it."""
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def push(connection, data, patience=1.0):
    """Sends until the peer has taken nothing for a while; what it has not taken."""
    left = memoryview(data)
    while left and select.select([], [connection.socket], [], patience)[1]:
        left = left[connection.socket.send(left[:65536], socket.MSG_DONTWAIT):]
    return bytes(left)


def exchange(connection, data, enough, timeout=12):
    """Sends and reads at the same time until enough(bytes received) or the end of the connection: all that came."""
    left, got, end = memoryview(data), bytearray(), time.monotonic() + timeout
    while not enough(got):
        patience = end - time.monotonic()
        assert patience > 0, f"{len(got)} bytes came, {len(left)} were not taken"
        readable, writable, _ = select.select([connection.socket], [connection.socket] if left else [], [], patience)
        if writable:
            left = left[connection.socket.send(left[:65536], socket.MSG_DONTWAIT):]
        if readable:
            data = connection.socket.recv(1 << 20)
            if not data:
                break
            got += data
    return bytes(got)


def still_open(connections, seconds):
    """Reads all until their ends: those whose end has not come by then."""
    left, end = {c.socket: c for c in connections}, time.monotonic() + seconds
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in left}
    for number in by_number:
        poll.register(number, select.POLLIN)
    while left and (wait := end - time.monotonic()) > 0:
        for number, _ in poll.poll(wait * 1000):
            try:
                data = by_number[number].recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                poll.unregister(number)
                del left[by_number[number]]
    return list(left.values())


def ends(data):
    """END_REQUEST records of request 1 that ended in order, counted in raw bytes."""
    return len(re.findall(re.escape(record(fcgi.END, 1, bytes(8))), data))
