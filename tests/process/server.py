"""A running tqfpm or nginx for a test, and what can be seen of it from outside."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fcgi

ROOT = Path(__file__).resolve().parents[2]
TQFPM = os.environ.get("TQFPM", str(ROOT / "tqfpm"))
PATIENCE = 30.0  # seconds until a condition that never comes true fails the test


def wait_for(condition, what="", timeout=PATIENCE):
    """Waits until condition() is true and returns what it said. `what`: words, or a function that makes them at the failure."""
    end = time.monotonic() + timeout
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"did not happen in {timeout} s: {what() if callable(what) else what or condition}")
        time.sleep(0.01)


def in_parallel(count, function):
    """What function(0), function(1), ... return that run at the same time; raises what the first one that failed has raised."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


class Ports:
    """Ports that no other process of tests is given, at this machine: each takes a block of its own, below those that the system
    gives to clients. A name in the abstract namespace holds the block; the kernel lets it go when the process ends."""

    FIRST, END, BLOCK = 10000, 32000, 400

    def __init__(self):
        for self.first in range(self.FIRST, self.END, self.BLOCK):
            self.held = socket.socket(socket.AF_UNIX)
            try:
                self.held.bind(f"\0tqfpm-test-ports-{self.first}")
                break
            except OSError:
                self.held.close()
        else:
            raise AssertionError("all blocks of ports are taken")
        self.given = 0

    def next(self):
        for _ in range(self.BLOCK):
            port = self.first + self.given % self.BLOCK
            self.given += 1
            with socket.socket() as probe:
                try:
                    probe.bind(("", port))  # on all addresses; without SO_REUSEADDR one that has just been in use is left alone
                    return port
                except OSError:
                    pass  # a server of this machine's
        raise AssertionError(f"no free port from {self.first} on")


ports = None


def free_port():
    global ports
    ports = ports or Ports()
    return ports.next()


class Process:
    """A process as /proc shows it."""

    def __init__(self, pid):
        self.pid = pid

    def read(self, name):
        return Path(f"/proc/{self.pid}/{name}").read_text(errors="replace")

    @property
    def title(self):
        try:
            return self.read("cmdline").replace("\0", " ").strip()
        except OSError:
            return ""

    def status(self, key):
        return re.search(rf"^{key}:[ \t]*(.*)$", self.read("status"), re.M)[1]

    @property
    def parent(self):
        return int(self.status("PPid"))

    @property
    def alive(self):
        try:
            return self.status("State")[0] != "Z"
        except (OSError, TypeError):
            return False

    @property
    def uids(self):
        return [int(x) for x in self.status("Uid").split()]

    @property
    def gids(self):
        return [int(x) for x in self.status("Gid").split()]

    @property
    def groups(self):
        return sorted(int(x) for x in self.status("Groups").split())

    @property
    def capabilities(self):
        return {name: int(self.status(name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}

    @property
    def fds(self):
        found = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found[int(fd)] = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except OSError:
                pass
        return found

    @property
    def pss(self):
        return int(re.search(r"^Pss:\s*(\d+)", self.read("smaps_rollup"), re.M)[1])

    def __repr__(self):
        return f"{self.pid} {self.title!r}"


def descendants(pid):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry))
            except OSError:
                pass
    found, todo = [], [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found



class Server:
    """One tqfpm with its configuration in a folder. Pools are dicts of directives; `listen` is chosen if not given."""

    def __init__(self, folder, number=0, pools=None, options=("-F",), binary=TQFPM, env=None, user=None, **global_settings):
        self.folder = folder
        self.www = folder / "www"
        self.www.mkdir(exist_ok=True)
        self.log_path = folder / f"error{number}.log"
        self.pid_path = folder / f"tqfpm{number}.pid"
        self.config_path = folder / f"tqfpm{number}.conf"
        self.options, self.binary, self.env, self.user = list(options), binary, env, user
        self.global_settings = {"pid": self.pid_path, "error_log": self.log_path, "log_level": "debug", **global_settings}
        self.pools = {}
        for name, given in (pools or {"www": {}}).items():
            self.pools[name] = {
                "user": "www-data", "group": "www-data", "listen": f"127.0.0.1:{free_port()}", "pm": "static",
                "pm.max_children": 2, "ping.path": "/ping", "pm.status_path": "/status", **given}
        self.status_addresses = {}
        self.process = None
        self.seen = set()
        self.extra = ""
        self.write()

    # --- files
    def write(self):
        text = "[global]\n" + "".join(f"{k} = {v}\n" for k, v in self.global_settings.items())
        for name, settings in self.pools.items():
            if "pm.status_listen" not in settings and name not in self.status_addresses:
                self.status_addresses[name] = f"127.0.0.1:{free_port()}"
            settings = {"pm.status_listen": self.status_addresses.get(name), **settings}
            text += f"\n[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items() if v is not None)
        self.config_path.write_text(text + self.extra)

    def script(self, name, code):
        path = self.www / name
        path.write_text("<?php " + code)
        os.utime(path, (1e9, 1e9))  # OPcache does not keep files that have just been written
        return str(path)

    @property
    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern, count=1, timeout=PATIENCE):
        wait_for(lambda: len(re.findall(pattern, self.log)) >= count, lambda: f"{pattern!r} in the log:\n{self.log[-3000:]}", timeout)

    # --- life
    def command(self, *more):
        return [self.binary, "-y", str(self.config_path), *self.options, *more]

    def start(self, ready=True):
        before = len(re.findall("ready to handle connections", self.log))
        # What a test prints on failure: the daemon's own words.
        self.stderr_path = self.folder / "stderr"
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                                            env=self.env, user=self.user, group=self.user, extra_groups=[] if self.user else None)
        if ready:
            wait_for(lambda: len(re.findall("ready to handle connections", self.log)) > before or self.process.poll() is not None,
                     lambda: f"start:\n{self.log}{self.stderr_path.read_text()}")
            assert self.process.poll() is None, self.log + self.stderr_path.read_text()
        return self

    def run(self, *more, timeout=PATIENCE):
        """Runs it to its end: (exit code, output)."""
        done = subprocess.run(self.command(*more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=self.env, timeout=timeout, text=True)
        return done.returncode, done.stdout

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def reload(self):
        before = len(re.findall("ready to handle connections", self.log))
        self.signal(signal.SIGUSR2)
        self.wait_log("ready to handle connections", before + 1)

    def wait(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def close(self):
        """Ends everything that was started; nothing may be left."""
        if self.process is None:
            return
        started = self.seen | set(descendants(self.pid))
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError("SIGTERM did not end tqfpm:\n" + self.log[-3000:])
        wait_for(lambda: not [pid for pid in started if Process(pid).alive and "tqfpm" in Process(pid).title],
                 "the end of all processes")
        said = self.stderr_path.read_text(errors="replace") if hasattr(self, "stderr_path") else ""
        assert "Sanitizer" not in said + self.log and "runtime error:" not in said + self.log, said + self.log
        self.process = None

    # --- what runs
    def processes(self, title):
        """Living descendants of the master whose title contains `title`."""
        found = [Process(pid) for pid in descendants(self.pid)]
        self.seen.update(p.pid for p in found)
        return [p for p in found if title in p.title and p.alive]

    def dispatchers(self, pool="www"):
        return self.processes(f"tqfpm: pool {pool}")

    def workers(self, pool="www"):
        return self.processes(f"php-cgi: pool {pool}")

    def all_workers(self, pool="www"):
        """The workers, when as many as pm = static wants are up."""
        count = int(self.pools[pool]["pm.max_children"])
        wait_for(lambda: len(self.workers(pool)) == count, f"{count} workers")
        return self.workers(pool)

    def templates(self, pool="www"):
        """The template, if there is one. A worker that is being forked has its title for a moment."""
        title = f"php-cgi: template {pool}"
        wait_for(lambda: len(self.processes(title)) <= 1, "one template")
        return self.processes(title)[:1]

    def zombies(self):
        return [p for p in descendants(self.pid) if not Process(p).alive and Path(f"/proc/{p}").exists()]

    # --- requests
    def address(self, pool="www"):
        return str(self.pools[pool]["listen"])

    def connect(self, pool="www", timeout=PATIENCE):
        return fcgi.Connection(self.address(pool), timeout)

    def request(self, script, pool="www", timeout=PATIENCE, **how):
        return fcgi.request(self.address(pool), script, timeout, **how)

    def page(self, uri, query="", pool="www", address=None, **how):
        return fcgi.request(address or self.address(pool), uri, PATIENCE, query=query,
                            extra={"SCRIPT_NAME": uri, "REQUEST_URI": uri + ("?" + query if query else "")}, **how)

    def status(self, pool="www", full=False):
        """From pm.status_listen, where the page does not count itself."""
        address = self.pools[pool].get("pm.status_listen") or self.status_addresses[pool]
        page = self.page("/status", "json" + ("&full" if full else ""), address=address)
        return json.loads(page.body)


class Nginx:
    """A real nginx in front of a Server; keep: connections to tqfpm stay open."""

    def __init__(self, folder, upstream, keep=False, extra=""):
        self.folder = folder / "nginx"
        self.folder.mkdir()
        self.port = free_port()
        if upstream.startswith("/"):
            upstream = "unix:" + upstream
        body = self.folder / "body"
        body.mkdir()
        shutil.chown(body, "www-data")
        (self.folder / "nginx.conf").write_text(f"""
user www-data; worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 300m; client_body_temp_path {body}; fastcgi_temp_path {body}/fastcgi;
  upstream php {{ server {upstream}; {"keepalive 32;" if keep else ""} }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096; root {folder}/www;
    location ~ \\.php$ {{
      include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      fastcgi_pass php; {"fastcgi_keep_conn on;" if keep else ""} {extra}
    }}
  }}
}}
""")
        self.process = subprocess.Popen(["/usr/sbin/nginx", "-c", str(self.folder / "nginx.conf")], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.listening, "nginx")

    def listening(self):
        assert self.process.poll() is None, (self.folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
