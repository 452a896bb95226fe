"""The dispatcher's side of the template's contract (src/ipc/control.h), spoken to a real php-cgi with the preload library."""
import array
import ctypes
import os
import socket
import struct
import subprocess
import time

import php
from server import TQFPM

SPAWN, READY, SPAWN_FAILED, LOADED = 1, 1, 2, 3
HELLO, ACCEPTING = 1, 2
LIBRARY = os.path.join(os.path.dirname(TQFPM), "libtqfpm-template.so")
PR_SET_CHILD_SUBREAPER = 36


def send_fds(sock, data, fds):
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def worker_setup():
    """ipc::WorkerSetup."""
    texts = (b"", b"", b"", b"", b"php-cgi: pool test", b"php-cgi: template test", b"")
    layout = "=IiiBBBx4096s4096s4096s256s256s256s4096s"
    return struct.pack(layout, struct.calcsize(layout), os.getpid(), 0, 1, 0, 0, *texts)


class Template:
    """One template; this process must be a child subreaper (see become_subreaper)."""

    def __init__(self, program=php.CGI, arguments=()):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dummy = socket.socket(socket.AF_UNIX)
        dummy.bind("")
        dummy.listen(1)
        library = os.open(LIBRARY, os.O_RDONLY)
        setup = os.memfd_create("setup")
        os.write(setup, worker_setup())
        script = f"exec 0<&{dummy.fileno()} 3<&{theirs.fileno()} 4<&{library} 5<&{setup}; exec {program} {' '.join(arguments)}"
        env = {"PATH": os.environ["PATH"], "LD_PRELOAD": "/proc/self/fd/4", "TQFPM_TEMPLATE_FD": "3", "PHP_FCGI_MAX_REQUESTS": "0"}
        # env(1) sets the variables in the last moment, so that bash itself is not preloaded.
        words = " ".join(f"{k}='{v}'" for k, v in env.items())
        self.process = subprocess.Popen(["bash", "-c", script.replace("exec " + program, f"exec env -i {words} {program}")],
                                        pass_fds=[dummy.fileno(), theirs.fileno(), library, setup])
        theirs.close()
        dummy.close()
        os.close(library)
        os.close(setup)
        self.control.settimeout(20)

    def reply(self):
        kind, slot, generation, error, pid = struct.unpack("=IIIii8x", self.control.recv(64))
        return kind, slot, generation, error, pid

    def ready(self):
        assert self.reply()[0] == LOADED
        kind, _, _, _, pid = self.reply()
        assert kind == READY and pid == self.process.pid
        return self

    def spawn(self, slot=0, generation=1):
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with open(os.devnull, "w") as null:
            send_fds(self.control, struct.pack("=IIII", SPAWN, slot, generation, 0), [theirs.fileno(), null.fileno(), null.fileno()])
        theirs.close()
        channel.settimeout(20)
        return Worker(channel)

    def close(self):
        self.control.close()
        self.process.wait(20)


class Worker:
    def __init__(self, channel):
        self.channel = channel

    def report(self):
        kind, slot, generation, pid, stage, error = struct.unpack("=IIIiIi", self.channel.recv(64))
        return kind, slot, generation, pid, stage, error

    def connect(self):
        ours, theirs = socket.socketpair()
        send_fds(self.channel, struct.pack("=I", 1), [theirs.fileno()])
        theirs.close()
        ours.settimeout(20)
        return ours

    def close(self):
        self.channel.close()


def become_subreaper(on):
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


def spawn_times(count):
    """Seconds from SPAWN to HELLO, one at a time."""
    become_subreaper(True)
    template = Template().ready()
    times = []
    for i in range(count):
        start = time.perf_counter()
        worker = template.spawn(slot=i)
        kind, _, _, pid, _, _ = worker.report()
        times.append(time.perf_counter() - start)
        assert kind == HELLO
        worker.close()
        os.waitpid(pid, 0)
    template.close()
    return times
