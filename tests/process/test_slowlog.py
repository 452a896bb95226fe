"""The slow log: what a real php-cgi is doing, read while it goes on."""
import fcntl
import os
import re
import shutil
import signal
import stat
import threading
import time
import zlib
from pathlib import Path

import pytest

import foreign
import php
from server import wait_for

HEAD = re.compile(r"\[\d\d-\w{3}-\d{4} \d\d:\d\d:\d\d\]  \[pool (?P<pool>\S+)\] pid (?P<pid>\d+)\n"
                  r"script_filename = (?P<script>.*)\nrequest = (?P<id>\S+) \"(?P<method>\S+) (?P<uri>.*)\"\n"
                  r"queue_wait = (?P<wait>\d+\.\d{6}) sec\nmemory = (?P<memory>.*)\n(running = (?P<running>.*)\n)?")
FRAME = re.compile(r"^\[0x[0-9a-f]{16}\] (.+?)\(\) (.+):(\d+)$", re.M)


class Entry:
    def __init__(self, text):
        head = HEAD.match(text)
        assert head, text
        self.text, self.head = text, head.groupdict()
        self.frames = FRAME.findall(text)
        failed = re.search(r"^\+\+\+ dump failed: (.*)$", text, re.M)
        self.failed = failed[1] if failed else None
        # Nothing else is in it: who parses php-fpm's slow log can read it.
        rest = [line for line in text[head.end():].splitlines() if not FRAME.match(line) and not line.startswith("+++ dump failed")]
        assert rest == [], text

    @property
    def functions(self):
        return [name for name, _, _ in self.frames]

    @property
    def lines(self):
        return [int(line) for _, _, line in self.frames]


def entries(path):
    text = path.read_text(errors="replace") if path.exists() else ""
    assert not text or text.startswith("\n")
    return [Entry(each) for each in re.split(r"\n(?=\[\d\d-)", text) if each]


PHPS = [pytest.param(version, spawn, id=f"{version}-{spawn}") for version in foreign.VERSIONS for spawn in ("fork", "exec")]


@pytest.fixture
def slow(server, folder):
    """A server with a slow log; run(code) gives the entry that a script has made."""

    def make(version=php.VERSION, **settings):
        pool = {"slowlog": folder / "slow.log", "request_slowlog_timeout": "300ms", "pm.max_children": 2,
                **foreign.settings(version, folder), **settings}
        s = server(pools={"www": pool}).start()
        s.slow_path = folder / "slow.log"

        def run(code, **how):
            before = len(entries(s.slow_path))
            s.last = s.script(f"{zlib.crc32(code.encode())}.php", code)  # OPcache keeps it: other code, another name
            answer = s.request(s.last, **how)
            assert answer.complete, (answer, s.log)
            wait_for(lambda: len(entries(s.slow_path)) > before, lambda: f"an entry:\n{s.log[-3000:]}")
            return entries(s.slow_path)[before]

        s.slow = run
        return s

    return make


CALLS = """
function plain() { usleep(700000); }
class Some {
  static function fixed() { plain(); }
  function method() {
    self::fixed();
  }
  function __call($name, $arguments) { $this->method(); }
}
$closure = function () {
  (new Some)->anything();
};
function gen($closure) { yield 1; $closure(); yield 2; }
function consume($closure) { foreach (gen($closure) as $x) { } }
array_map(function ($x) use ($closure) { consume($closure); }, [1]);
"""


def closure_at(script, line, version=php.VERSION):
    """What PHP calls a closure that begins at this line: from 8.4 on its place is in the name."""
    return f"{{closure:{script}:{line}}}" if php.at_least("8.4", version) else "{closure}"


@pytest.mark.parametrize("version, spawn", PHPS)
def test_functions_methods_closures_generators(slow, version, spawn):
    s = slow(version, **{"php.spawn": spawn})
    for _ in range(2):  # the second time from OPcache's memory
        entry = s.slow(CALLS + "if (!opcache_get_status()) echo 'no OPcache';", query="a=b", extra={"REQUEST_ID": "abc-1"})
        script = s.last
        closure = lambda line: closure_at(script, line, version)
        expected = [("usleep", 2), ("plain", 4), ("Some::fixed", 6), ("Some->method", 8), ("Some->__call", 11), (closure(10), 13),
                    ("gen", 14), ("consume", 15), (closure(15), 15), ("array_map", 15)]
        assert entry.frames == [(name, script, str(line)) for name, line in expected], entry.text
        assert entry.failed is None
    worker = int(entry.head["pid"])
    assert worker in [w.pid for w in s.processes("php-cgi")]
    assert entry.head == {"pool": "www", "pid": str(worker), "script": script, "id": "abc-1", "method": "GET", "uri": f"/{Path(script).name}?a=b",
                          "wait": entry.head["wait"], "memory": entry.head["memory"], "running": f"{script}:2"}
    assert 0 <= float(entry.head["wait"])
    resident, share = map(int, re.fullmatch(r"(\d+) kB \(Pss (\d+) kB\)", entry.head["memory"]).groups())
    assert resident >= share > 500


@pytest.mark.parametrize("version", foreign.VERSIONS)
def test_includes(slow, version):
    s = slow(version)
    s.script("inner.php", "\n\nfunction inner() { usleep(700000); }\ninner();")
    s.script("outer.php", "\nrequire __DIR__ . '/inner.php';")
    entry = s.slow("function load($x) { include __DIR__ . '/outer.php'; }\neval('\n load(1);');")
    www = str(s.www)
    evaluated = f"{s.last}(2) : eval()'d code"
    assert entry.frames == [("usleep", f"{www}/inner.php", "3"), ("inner", f"{www}/inner.php", "4"),
                            ("[INCLUDE_OR_EVAL]", f"{www}/outer.php", "2"), ("[INCLUDE_OR_EVAL]", s.last, "1"),
                            ("load", evaluated, "2"), ("[INCLUDE_OR_EVAL]", s.last, "2")], entry.text


AUTOLOAD = "spl_autoload_register(function ($name) { include __DIR__ . '/late.php'; });\nfunction f() { return new Late; }\nf();"


def test_a_file_that_autoloading_includes(slow):
    s = slow()
    s.script("late.php", "\nclass Late { }\nusleep(700000);")
    assert s.slow(AUTOLOAD).functions == ["usleep", "[INCLUDE_OR_EVAL]", closure_at(s.last, 1), "f"]


@pytest.mark.parametrize("version", foreign.VERSIONS)
def test_blocked_in_an_internal_function(slow, folder, version):
    s = slow(version)
    wait = "$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); stream_set_timeout($pair[0], 1); fgets($pair[0]);"
    assert s.slow(f"function f() {{\n{wait}\n}}\nf();").frames[0][0::2] == ("fgets", "2")
    assert s.slow("\n\nsleep(1);").frames[0][0::2] == ("sleep", "3")
    lock = folder / "lock"
    lock.touch()
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.8, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        entry = s.slow(f"\n$f = fopen('{lock}', 'r');\nflock($f, LOCK_EX);")
    assert entry.frames[0][0::2] == ("flock", "3")
    assert len(entry.frames) == 1 and entry.failed is None


@pytest.mark.parametrize("version", foreign.VERSIONS)
def test_code_that_calls_nothing(slow, version):
    s = slow(version)
    loop = "$end = hrtime(true) + 600000000;\nwhile (true) {\n  for ($i = 0; $i < 1000000; $i++) { }\n  if (hrtime(true) > $end) break;\n}"
    entry = s.slow(loop)
    assert entry.frames == [] and entry.failed is None
    assert re.fullmatch(rf"{s.last}:[1-5]", entry.head["running"])
    entry = s.slow(f"function spin() {{\n{loop} }}\n\nspin();")
    assert entry.frames == [("spin", s.last, "8")]
    assert re.fullmatch(rf"{s.last}:[2-6]", entry.head["running"])


def test_yield_from_and_fibers(slow):
    s = slow()
    code = "function inner() { yield 1; usleep(700000); yield 2; }\nfunction outer() { yield from inner(); }\nforeach (outer() as $x);"
    assert s.slow(code).functions[:2] == ["usleep", "inner"]
    code = "function deep() {\n usleep(700000); }\n$fiber = new Fiber(function () { deep(); });\n$fiber->start();"
    assert s.slow(code).functions == ["usleep", "deep", closure_at(s.last, 3), "Fiber->start"]


def test_depth(slow):
    s = slow(**{"request_slowlog_trace_depth": 5})
    code = "function f($n) {\n  if ($n == 0) usleep(600000);\n  else f($n - 1);\n}\nf(3000);"
    entry = s.slow(code)
    assert entry.functions == ["usleep", "f", "f", "f", "f"] and entry.lines == [2, 3, 3, 3, 3]


def test_a_very_deep_recursion_is_cut_where_the_room_ends(slow):
    s = slow(**{"request_slowlog_trace_depth": 1000000})
    entry = s.slow("function f($n) {\n  if ($n == 0) usleep(600000);\n  else f($n - 1);\n}\nf(100000);")
    # On a busy machine the bound on time may come first.
    assert 1 < len(entry.frames) < 5000 and entry.failed in ("there is no room for more", "reading it takes too long")
    assert len(entry.text) < 64 << 10


def test_each_request_once_counted_and_said(slow):
    s, took = slow(), []
    for microseconds in (1500000, 500000):
        begin = time.monotonic()
        s.slow(f"usleep({microseconds});")
        took.append(time.monotonic() - begin)
        s.request(s.script("fast.php", "echo 1;"))
    assert len(entries(s.slow_path)) == 2
    assert s.status()["slow requests"] == 2
    said = re.findall(r"WARNING: .*\[pool www\] child (\d+), script '(.*)' \(request: \"GET /\d+\.php\"\) "
                      r"executing too slow \((\d+\.\d{6}) sec\), logging", s.log)
    assert len(said) == 2 and said[1][1] == s.last
    assert all(0.3 <= float(each[2]) <= whole for each, whole in zip(said, took))  # said while it runs
    assert stat.S_IMODE(s.slow_path.stat().st_mode) == 0o600


def test_nothing_is_stopped_and_nobody_may_more(slow):
    """No signal, no ptrace, no capability but the one to signal workers."""
    s = slow(**{"request_slowlog_timeout": "10ms", "pm.max_children": 1})
    script = s.script("short.php", "for ($i = 0; $i < 3; $i++) usleep(10000);")
    worker, states, done = s.all_workers()[0], set(), threading.Event()

    def watch():
        while not done.is_set():
            states.add(worker.status("State")[0] + worker.status("TracerPid"))

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(60):
        assert s.request(script).complete
    done.set()
    thread.join()
    wait_for(lambda: len(entries(s.slow_path)) == 60)
    assert any(e.head["pid"] == str(worker.pid) and e.functions == ["usleep"] for e in entries(s.slow_path))
    assert states <= {"S0", "R0", "D0"}
    assert s.dispatchers()[0].capabilities["CapPrm"] == 1 << 5
    assert set(s.processes("tqfpm: spawner")[0].capabilities.values()) == {0}


def test_with_chroot(slow, folder):
    s = slow(chroot=folder / "www", chdir="/")
    s.script("slow.php", "function f() { usleep(700000); }\nf();")
    assert s.request("/slow.php").complete
    wait_for(lambda: len(entries(s.slow_path)) == 1)
    assert entries(s.slow_path)[0].frames == [("usleep", "/slow.php", "1"), ("f", "/slow.php", "2")]


def test_without_root(server, folder):
    shutil.chown(folder, "www-data")
    s = server(user="www-data", pools={"www": {"user": None, "group": None, "slowlog": folder / "slow.log",
                                               "request_slowlog_timeout": "300ms"}}).start()
    assert s.request(s.script("slow.php", "usleep(600000);")).complete
    wait_for(lambda: len(entries(folder / "slow.log")) == 1)
    assert entries(folder / "slow.log")[0].functions == ["usleep"]


def test_many_at_once(slow):
    s = slow(**{"pm.max_children": 12})
    s.all_workers()
    script = s.script("slow.php", "function f() { usleep(1500000); } f();")
    threads = [threading.Thread(target=s.request, args=(script,)) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = entries(s.slow_path)
    assert len({e.head["pid"] for e in found}) == len(found) == 12
    assert all(e.functions == ["usleep", "f"] for e in found)


def spawner(s):
    return s.processes("tqfpm: spawner www")[0].pid


def in_background(s, script):
    thread = threading.Thread(target=s.request, args=(script,))
    thread.start()
    return thread


def test_a_worker_that_ends_before_it_can_be_read(slow):
    s = slow()
    os.kill(spawner(s), signal.SIGSTOP)
    request = in_background(s, s.script("die.php", "usleep(600000); posix_kill(getmypid(), SIGKILL); sleep(5);"))
    request.join()
    os.kill(spawner(s), signal.SIGCONT)
    wait_for(lambda: entries(s.slow_path))
    entry, = entries(s.slow_path)
    assert entry.frames == [] and entry.head["memory"] == "unknown" and entry.head["script"].endswith("/die.php")
    assert entry.failed == "the request has ended while its worker was read"
    assert s.slow("usleep(700000);").functions == ["usleep"]


@pytest.mark.serial  # 150 ms must be less than 300
def test_another_request_is_not_taken_for_the_slow_one(slow):
    s = slow(**{"pm.max_children": 1})
    os.kill(spawner(s), signal.SIGSTOP)
    s.request(s.script("first.php", "usleep(500000);"))
    second = in_background(s, s.script("second.php", "function second() { usleep(150000); } second();"))
    os.kill(spawner(s), signal.SIGCONT)
    second.join()
    wait_for(lambda: entries(s.slow_path))
    entry, = entries(s.slow_path)
    assert entry.frames == [] and entry.failed == "the request has ended while its worker was read"


@pytest.mark.parametrize("number, reason", [(signal.SIGSTOP, "the spawner does not answer in time"), (signal.SIGKILL, "the spawner has gone")])
def test_a_spawner_that_does_not_answer(slow, number, reason):
    s = slow()
    pid = spawner(s)
    os.kill(pid, signal.SIGSTOP)
    request = in_background(s, s.script("slow.php", "usleep(5000000);"))
    s.wait_log("executing too slow")
    os.kill(pid, number)
    wait_for(lambda: entries(s.slow_path))
    entry, = entries(s.slow_path)
    assert entry.failed == reason and entry.frames == []
    if number == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
    request.join()


def test_a_stop_writes_what_is_known(slow):
    s = slow()
    os.kill(spawner(s), signal.SIGSTOP)
    request = in_background(s, s.script("slow.php", "usleep(5000000);"))
    s.wait_log("executing too slow")
    s.signal(signal.SIGTERM)
    assert s.wait() == 0
    request.join()
    assert entries(s.slow_path)[0].failed == "tqfpm has ended meanwhile"


def test_a_php_that_is_not_known(slow, folder):
    """Not a guess: one NOTICE, and entries without backtraces."""
    program, build = Path(php.CGI).read_bytes(), f"API{php.BUILD},NTS\0".encode()
    assert program.count(build) > 0
    other = folder / "php-cgi-other"
    other.write_bytes(program.replace(build, b"API20990829,NTS\0"))
    other.chmod(0o755)
    s = slow(**{"php.binary": other, "php.version": None})
    for _ in range(2):
        entry = s.slow("usleep(600000);")
        assert entry.frames == [] and entry.failed == f"PHP {php.FULL_VERSION} is built as API20990829,NTS, and only API{php.BUILD},NTS is known"
        assert entry.head["memory"] != "unknown"
    assert len(re.findall(rf"NOTICE: .*\[pool www\] no backtraces of {other}: PHP {php.FULL_VERSION} is built as", s.log)) == 1


def test_names_cannot_forge_entries(slow):
    s = slow()
    s.script("a\n[0x0000000000000000] evil() b.php", "usleep(600000);")
    uri = "/x\n\n[01-Jan-2000 00:00:00]  [pool evil] pid 1"
    entry = s.slow("include glob(__DIR__ . '/a*')[0];", extra={"REQUEST_URI": uri})
    assert entry.head["uri"] == "/x\\x0a\\x0a[01-Jan-2000 00:00:00]  [pool evil] pid 1"
    assert entry.functions == ["usleep", "[INCLUDE_OR_EVAL]"] and "evil" in entry.frames[0][1]
    assert "\n[01-Jan" not in s.log


def test_reopen(slow, folder):
    s = slow()
    s.slow("usleep(500000);")
    s.slow_path.rename(folder / "slow.old")
    s.signal(signal.SIGUSR1)
    s.wait_log("slow log file re-opened")
    s.slow("usleep(600000);")
    assert len(entries(folder / "slow.old")) == 1
