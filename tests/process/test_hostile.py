"""Those who mean harm: web servers that send settings, descriptors and ids of their own, scripts that flood, lie and do not end,
disks that stand. Everybody else is served meanwhile."""
import array
import os
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

import fcgi
from pressure import MIB, SLEEP, Later, Pings, busy, local, offer, whole
from server import Process, wait_for
from template import ACCEPTING, HELLO

FFI = {"php_admin_value[ffi.enable]": "1"}
NATIVE = r"""$libc = FFI::cdef('int getsockopt(int, int, int, void *, void *); long write(int, void *, long); void *signal(int, void *);
    struct part { void *base; long length; };
    struct message { void *name; int name_length; struct part *parts; long count; void *control; long control_length; int flags; };
    struct rights { long length; int level, type, fd, more; };
    int socket(int, int, int); int connect(int, void *, int); int setsockopt(int, int, int, void *, int); int close(int);
    long send(int, void *, long, int); long sendmsg(int, struct message *, int);');
function socket_of($libc, $wanted) { // 1: the connection, 5: the channel
    for ($fd = 3; $fd < 30; $fd++) {
        $type = FFI::new('int'); $size = FFI::new('int'); $size->cdata = 4;
        if ($libc->getsockopt($fd, 1, 3, FFI::addr($type), FFI::addr($size)) == 0 && $type->cdata == $wanted) return $fd;
    }
}
function bytes($text) { $all = FFI::new('char[' . strlen($text) . ']'); FFI::memcpy($all, $text, strlen($text)); return $all; }
"""


def report(kind, pid="getmypid()"):
    """PHP's words for a WorkerReport of ipc/control.h."""
    return f"pack('VVVVVV', {kind}, 0, 1, {pid}, 0, 0)"


def worker_pids(s):
    return [each["pid"] for each in s.status(full=True)["processes"]]


def serves(s, timeout=8):
    """A request is answered; by which worker."""
    answer = s.request(s.script("pid.php", "echo getmypid();"), timeout=timeout)
    assert answer.status == 200 and answer.complete, answer
    return int(answer.text)


def log_size(s):
    return s.log_path.stat().st_size


# --- settings of web servers ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("policy", ["all", "refuse"])
@pytest.mark.parametrize("name", ["PHP_VALUE", "PHP_ADMIN_FLAG"])
def test_settings_with_an_open_quote_hold_up_nobody(server, folder, policy, name):
    s = server(pools=local(folder, **{"security.web_php_values": policy})).start()
    script = s.script("a.php", "echo 'ok';")
    with Pings(s) as pings:
        sent = Later(lambda: s.request(script, timeout=12, extra={name: b'a = "' + b"\n" * 40000}))
        answer = sent.result()
    assert pings.slowest < 0.2, f"{pings.slowest:.3f} s"
    assert isinstance(answer, fcgi.Response) and (answer.complete or answer.closed)
    assert serves(s)


def test_many_settings_hold_up_nobody(server, folder):
    s = server(pools=local(folder)).start()
    script = s.script("a.php", "echo 'ok';")
    value = "".join(f"a{i:x}=1\n" for i in range(8000))[:65000]
    extra = {name: value for name in ("PHP_VALUE", "PHP_FLAG", "PHP_ADMIN_VALUE", "PHP_ADMIN_FLAG")}
    with Pings(s) as pings:
        assert isinstance(Later(lambda: s.request(script, timeout=12, extra=extra)).result(), fcgi.Response)
    assert pings.slowest < 0.2, f"{pings.slowest:.3f} s"
    assert serves(s)


# --- scripts that say much ------------------------------------------------------------------------------------------

def suppressed(log):
    """How many lines were not written, as the log tells."""
    told = re.findall(r"\b(\d+)\b[^\d\n]*\bsuppressed|\bsuppressed[^\d\n]*\b(\d+)", log)
    return sum(int(before or behind) for before, behind in told)


@pytest.mark.parametrize("line, thousands", [("", 1800), ("x", 900)], ids=["empty", "short"])
def test_a_flood_of_lines_is_counted_and_holds_up_nobody(server, folder, line, thousands):
    s = server(pools=local(folder, catch_workers_output="yes")).start()
    script = s.script("flood.php", f"""$f = fopen('php://stderr', 'w');
        for ($i = 0; $i < {thousands}; $i++) fwrite($f, str_repeat("{line}\\n", 1000)); echo 'done';""")
    with Pings(s) as pings:
        assert s.request(script, timeout=12).text == "done"
        pings.during(0.3)
    assert pings.slowest < 0.2, f"{pings.slowest:.3f} s"
    assert log_size(s) < 2 * MIB
    wait_for(lambda: suppressed(s.log) + s.log.count(f'"{line}"') >= thousands * 1000, "each line is there or counted", timeout=8)
    hello = s.script("hello.php", "fwrite(fopen('php://stderr', 'w'), \"hello\\n\"); echo 'ok';")
    wait_for(lambda: s.request(hello).text == "ok" and '"hello"' in s.log, "it is heard again", timeout=8)


@pytest.mark.parametrize("words", [report(ACCEPTING), report(HELLO), report(99), "'abc'"], ids=["accepting", "hello", "unknown", "short"])
def test_a_flood_in_the_channel_ends_its_worker(server, folder, words):
    s = server(pools=local(folder, **FFI)).start()
    pid, = [w.pid for w in s.all_workers()]
    script = s.script("flood.php", NATIVE + f"""$channel = socket_of($libc, 5); $words = {words}; $bytes = bytes($words);
        for ($i = 0; $i < 300000; $i++) if ($libc->write($channel, $bytes, strlen($words)) < 0) usleep(100); sleep(3); echo 'done';""")
    with Pings(s) as pings:
        answer = Later(lambda: s.request(script, timeout=10)).result()
    assert pings.slowest < 0.2, f"{pings.slowest:.3f} s"
    assert isinstance(answer, fcgi.Response) and answer.status == 502
    wait_for(lambda: not Process(pid).alive, "its end", timeout=3)
    assert serves(s) != pid and log_size(s) < 2 * MIB


def test_questions_for_the_status_without_end_hold_up_nobody(server, folder):
    """fpm_get_status() in a loop is a script's right; asking without waiting for answers is not."""
    s = server(pools=local(folder, **FFI)).start()
    asking = s.script("ask.php", "for ($i = 0; $i < 3000; $i++) $all = fpm_get_status(); echo $all['pool'];")
    script = s.script("flood.php", NATIVE + f"""$channel = socket_of($libc, 5); $bytes = bytes($words = {report(4)});
        for ($i = 0; $i < 100000; $i++) $libc->write($channel, $bytes, 24); echo 'done';""")
    with Pings(s) as pings:
        assert s.request(asking, timeout=10).text == "www"
        Later(lambda: s.request(script, timeout=10)).result()
    assert pings.slowest < 0.2, f"{pings.slowest:.3f} s"
    assert log_size(s) < 2 * MIB
    assert serves(s)


def test_output_of_scripts_is_safe_in_the_log(server, folder):
    s = server(pools=local(folder, catch_workers_output="yes")).start()
    script = s.script("say.php", r"""fwrite(fopen('php://stderr', 'w'), "\x1b[2J\x1b]0;title\x07red\rforged\x00\x7f end\n");
        error_log("\x1b[31mlogged\r"); echo 'ok';""")
    assert s.request(script).text == "ok"
    s.wait_log(" end\"")
    s.wait_log("logged")
    assert r"\x1b[2J\x1b]0;title\x07red\x0dforged\x00\x7f end" in s.log and r"\x1b[31mlogged" in s.log
    raw = s.log_path.read_bytes()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", raw), re.findall(rb".*[\x00-\x08\x0b-\x1f\x7f].*", raw)[:3]


# --- descriptors that others send -----------------------------------------------------------------------------------

class Lingering:
    """A TCP socket whose last close takes five seconds: its peer does not read."""

    def __init__(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        self.ours = socket.create_connection(listener.getsockname(), timeout=5)
        self.peer, _ = listener.accept()
        listener.close()
        self.ours.setblocking(False)
        try:
            while True:
                self.ours.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        self.ours.setblocking(True)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))

    def give(self, connection, data, receiver):
        """Sends data with the socket, which then is the receiver's alone: it does not look before we have closed it. Without the
        socket where it takes none, or has closed."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.ours.fileno()]))]
        os.kill(receiver.pid, signal.SIGSTOP)
        try:
            data = data[connection.socket.sendmsg([data], rights):]
        except (PermissionError, BrokenPipeError, ConnectionResetError):
            self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        finally:
            self.ours.close()
            os.kill(receiver.pid, signal.SIGCONT)
        offer(connection, data)

    def close(self):
        self.ours.close()
        self.peer.close()


@pytest.mark.parametrize("where", ["one byte", "a whole request", "a body", "behind what is never read"])
def test_descriptors_of_a_client_hold_up_nobody(server, folder, where):
    s = server(pools=local(folder)).start()
    script = s.script("a.php", "echo strlen(file_get_contents('php://input'));")
    post = whole(script, method="POST", body=b"x" * 1000)
    before, with_it, answer = {"one byte": (b"", b"\x01", None), "a whole request": (b"", whole(script), "0"),
                               "a body": (post[:-1008], post[-1008:], "1000"),
                               "behind what is never read": (b"", b"GET / HTTP/1.1\r\n" + b"x" * 200000, None)}[where]
    lingering, dispatcher = Lingering(), s.dispatchers()[0]
    with Pings(s) as pings, s.connect(timeout=10) as c:
        c.send(before)
        lingering.give(c, with_it, dispatcher)
        assert answer is None or c.finish().text == answer
        pings.during(0.7)
        c.close()
        pings.during(0.7)
    lingering.close()
    assert pings.slowest < 0.5, f"{pings.slowest:.3f} s"
    assert serves(s)


def giver(s, port, kind, data):
    """A script that waits for the file `go`, sends data with a lingering socket to the dispatcher and makes the file `sent`."""
    return s.script("give.php", NATIVE + f"""$tcp = $libc->socket(2, 1, 0);
        $libc->connect($tcp, bytes(pack('vnC4x8', 2, {port}, 127, 0, 0, 1)), 16);
        $zeros = FFI::new('char[65536]'); while ($libc->send($tcp, $zeros, 65536, 0x40) > 0);
        $libc->setsockopt($tcp, 1, 13, bytes(pack('VV', 1, 5)), 8);
        $parts = $libc->new('struct part'); $bytes = bytes($data = {data}); $parts->length = strlen($data);
        $parts->base = FFI::cast('void *', FFI::addr($bytes));
        $rights = $libc->new('struct rights'); $rights->length = 20; $rights->level = $rights->type = 1; $rights->fd = $tcp;
        $message = $libc->new('struct message'); $message->parts = FFI::addr($parts); $message->count = 1;
        $message->control_length = 24; $message->control = FFI::cast('void *', FFI::addr($rights));
        while (!file_exists('{s.folder}/go')) {{ usleep(1000); clearstatcache(); }}
        if ($libc->sendmsg(socket_of($libc, {kind}), FFI::addr($message), 0) < 0) $libc->setsockopt($tcp, 1, 13, bytes(pack('VV', 0, 0)), 8);
        $libc->close($tcp); touch('{s.folder}/sent'); usleep(300000); echo 'sent';""")


@pytest.mark.parametrize("kind", [1, 5], ids=["connection", "channel"])
def test_descriptors_of_a_worker_hold_up_nobody(server, folder, kind):
    folder.chmod(0o777)
    s = server(pools=local(folder, **FFI)).start()
    listener = socket.create_server(("127.0.0.1", 0))  # accepts nothing, reads nothing
    data = r'"\x01\x06\x00\x01\x00\x00\x00\x00"' if kind == 1 else report(ACCEPTING)  # an empty record of output, or a lie
    dispatcher, = s.dispatchers()
    with Pings(s) as pings:
        giving = Later(lambda: s.request(giver(s, listener.getsockname()[1], kind, data), timeout=10))
        busy(s)
        os.kill(dispatcher.pid, signal.SIGSTOP)
        (folder / "go").touch()
        try:
            wait_for((folder / "sent").exists, "it is sent", timeout=4)
        finally:
            os.kill(dispatcher.pid, signal.SIGCONT)
        giving.result()
        pings.during(0.7)
    listener.close()
    assert pings.slowest < 0.5, f"{pings.slowest:.3f} s"
    assert serves(s)


# --- workers that lie -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [report(ACCEPTING), report(HELLO), report(HELLO, "-1"), report(99), "'x'", "str_repeat('x', 100)"],
                         ids=["accepting", "hello", "hello of nobody", "unknown", "short", "long"])
def test_a_worker_that_reports_what_cannot_be_ends(server, folder, words):
    s = server(pools=local(folder, **FFI)).start()
    pid, = [w.pid for w in s.all_workers()]
    script = s.script("lie.php", NATIVE + f"""$bytes = bytes($words = {words}); ignore_user_abort(true);
        for ($i = 0; $i < 2; $i++) $libc->write(socket_of($libc, 5), $bytes, strlen($words)); sleep(6); echo 'done';""")
    answer = s.request(script, timeout=10)
    assert answer.complete and answer.status == 502, answer
    wait_for(lambda: not Process(pid).alive, "its end", timeout=3)
    assert serves(s) != pid
    wait_for(lambda: len(worker_pids(s)) == 1, "one worker", timeout=5)
    assert min(worker_pids(s)) > 0 and pid not in worker_pids(s)


def test_a_worker_that_lies_after_its_request_ends(server, folder):
    """What a script has left running says that it accepts, while its worker is idle."""
    s = server(pools=local(folder, **FFI)).start()
    script = s.script("later.php", NATIVE + f"""$channel = socket_of($libc, 5); $bytes = bytes($words = {report(99)}); $me = getmypid();
        if (pcntl_fork() == 0) {{ usleep(300000); $libc->write($channel, $bytes, strlen($words)); posix_kill(getmypid(), SIGKILL); }}
        echo $me;""")
    pid = int(s.request(script, timeout=5).text)
    wait_for(lambda: not Process(pid).alive, "its end", timeout=5)
    assert serves(s) != pid and min(worker_pids(s)) > 0


def test_a_start_that_is_reported_by_nobody_makes_no_worker(server, folder):
    """Workers that die as soon as they are up: whatever they have said, no worker without a process is in the list."""
    s = server(pools=local(folder, **{"pm.max_children": 4})).start()
    for _ in range(5):
        for worker in s.workers():
            os.kill(worker.pid, signal.SIGKILL)
        pids = worker_pids(s)
        assert all(pid > 0 for pid in pids) and len(pids) <= 4, pids
    assert serves(s)


def test_who_has_the_rights_of_scripts_has_no_scoreboard(server, folder):
    """What is shared by all processes and pools is mapped by none that a script could take over."""
    s = server().start()
    assert "tqfpm-scoreboard" in s.dispatchers()[0].read("maps")
    for process in s.processes("tqfpm: spawner") + s.templates() + s.all_workers():
        assert not re.search("tqfpm-(scoreboard|processes)", process.read("maps")), process


# --- disks that stand -----------------------------------------------------------------------------------------------

def full_pipe(path):
    """A FIFO whose reader has stopped: not a byte fits in."""
    os.mkfifo(path, 0o666)
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(reader, bytes(4096))
    except BlockingIOError:
        pass
    return reader


LOGS = {"access.log": {}, "slowlog": {"request_slowlog_timeout": "200ms"}}


@pytest.mark.parametrize("directive", LOGS)
def test_a_log_that_nobody_reads_holds_up_nobody(server, folder, directive):
    reader = full_pipe(folder / "log")
    s = server(pools=local(folder, **{directive: folder / "log", **LOGS[directive]})).start()
    script = s.script("sleep.php", SLEEP)
    with Pings(s) as pings:
        for _ in range(3):
            assert s.request(script, timeout=8, query="ms=400").complete
    os.close(reader)
    assert pings.slowest < 0.3, f"{pings.slowest:.3f} s"


@pytest.fixture
def frozen(folder):
    """A file system of its own; freeze() and thaw() it."""
    disk, image = folder / "disk", folder / "image"
    disk.mkdir()
    run = lambda *command: subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20).returncode
    if run("truncate", "-s", "8M", image) or run("mkfs.ext4", "-q", image) or run("mount", "-o", "loop", image, disk):
        pytest.skip("no file system can be mounted here")
    disk.chmod(0o777)
    if run("fsfreeze", "-f", disk) or run("fsfreeze", "-u", disk):
        run("umount", disk)
        pytest.skip("file systems cannot be frozen here")
    yield disk, lambda: run("fsfreeze", "-f", disk), lambda: run("fsfreeze", "-u", disk)
    run("fsfreeze", "-u", disk)
    wait_for(lambda: run("umount", disk) == 0, "the end of the file system")


@pytest.mark.parametrize("directive", [*LOGS, "error_log"])
def test_a_disk_that_stands_holds_up_nobody(frozen, server, folder, directive):
    disk, freeze, thaw = frozen
    pool = local(folder, catch_workers_output="yes", **({directive: disk / "log", **LOGS[directive]} if directive in LOGS else {}))
    s = server(pools=pool, **({"error_log": disk / "log"} if directive == "error_log" else {}))
    if directive == "error_log":
        s.log_path = disk / "log"
    s.start()
    script = s.script("say.php", "fwrite(fopen('php://stderr', 'w'), \"once {$_GET['i']} more\\n\");" + SLEEP)
    freeze()
    try:
        with Pings(s) as pings:
            answers = [Later(lambda i=i: s.request(script, timeout=5, query=f"ms=400&i={i}")) for i in range(4)]
            got = [each.result() for each in answers]
    finally:
        thaw()
    assert all(isinstance(each, fcgi.Response) and each.status == 200 for each in got), got
    assert pings.slowest < 0.3, f"{pings.slowest:.3f} s"
    mark = {"access.log": "say.php", "slowlog": "script_filename = ", "error_log": r'"once \d more"'}[directive]
    wait_for(lambda: len(re.findall(mark, (disk / "log").read_text())) >= 4, "what was said meanwhile is written", timeout=5)


# --- ids of requests ------------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("status", [403, 404, 502, 503, 504])
def test_an_id_from_outside_is_not_in_our_pages(server, folder, status):
    s = server(pools=local(folder, **{"security.web_php_values": "refuse" if status == 403 else "all", "request_terminate_grace": "200ms",
                                      "request_terminate_timeout": "1s" if status == 504 else "0", "queue.max_length": 0, **FFI})).start()
    extra = {"REQUEST_ID": EVIL, **({"PHP_VALUE": "memory_limit=1M"} if status == 403 else {})}
    script = s.script({502: "die.php", 504: "loop.php"}.get(status, "sleep.php"), {
        502: "posix_kill(getmypid(), SIGKILL);", 504: NATIVE + "$libc->signal(27, FFI::cast('void *', 1)); while (true);"}.get(status, SLEEP))
    if status == 503:
        running = Later(lambda: s.request(script, query="ms=800"))
        busy(s)
    answer = s.request(script if status != 404 else str(folder / "www/none.php"), timeout=8, extra=extra)
    assert answer.status == status and answer.complete, answer
    assert b"script>" not in answer.stdout and b"alert" not in answer.stdout
    if status == 503:
        assert running.result().complete


def test_only_what_is_an_id_is_taken_for_one(server, folder):
    s = server(pools=local(folder)).start()
    script = s.script("id.php", "echo $_SERVER['TQFPM_REQUEST_ID'];")
    told = lambda given: s.request(script, extra={"REQUEST_ID": given}).text
    good = ["a", "night-7", "550e8400-e29b-41d4-a716-446655440000", "A.b_C-9", "x" * 128]
    bad = [EVIL, "", "a b", "a\nb", "a\"b", "\u00e4", "x" * 129, "a;b", "a/b"]
    assert [told(given) for given in good] == good
    own = [told(given) for given in bad]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", each) for each in own) and len({*own, *good}) == len(good + bad), own


@pytest.mark.parametrize("setting, count", [("yes", 2), ("no", 0)])
def test_what_we_add_to_the_environment_can_be_left_out(server, folder, setting, count):
    s = server(pools=local(folder, **{"request.environment": setting})).start()
    script = s.script("env.php", "echo count(preg_grep('/^TQFPM_(REQUEST_ID|QUEUE_WAIT_US)$/', array_keys($_SERVER + getenv())));")
    assert s.request(script, extra={"REQUEST_ID": "night-7"}).text == str(count)


# --- scripts that do not end ----------------------------------------------------------------------------------------

IGNORE = NATIVE + "foreach ([SIGPROF, SIGTERM, SIGALRM] as $number) $libc->signal($number, FFI::cast('void *', 1));"
LIMITS = {"request_terminate_timeout": "1s", "request_terminate_grace": "500ms"}


@pytest.mark.parametrize("spawn", ["fork", "exec"])
@pytest.mark.parametrize("work", ["while (true);", "while (true) sleep(100);"], ids=["busy", "asleep"])
def test_a_script_that_ignores_signals_ends(server, folder, spawn, work):
    s = server(pools=local(folder, **{"php.spawn": spawn}, **FFI, **LIMITS)).start()
    pid = serves(s)
    started = time.monotonic()
    answer = s.request(s.script("loop.php", IGNORE + work), timeout=8)
    assert answer.complete and answer.status == 504 and 1 < time.monotonic() - started < 3.5
    started = time.monotonic()
    assert serves(s) != pid and time.monotonic() - started < 2
    assert not Process(pid).alive


def test_a_script_whose_client_has_gone_ends_as_well(server, folder):
    s = server(pools=local(folder, **FFI, **LIMITS)).start()
    pid = serves(s)
    with s.connect() as c:
        c.start(s.script("loop.php", IGNORE + "ignore_user_abort(true); while (true);"))
        busy(s)
    wait_for(lambda: not Process(pid).alive, "its end", timeout=4)
    assert serves(s) != pid


def test_shutdown_functions_without_end_end(server, folder):
    s = server(pools=local(folder, **FFI, **LIMITS)).start()
    pid = serves(s)
    answer = s.request(s.script("loop.php", "register_shutdown_function(function () { set_time_limit(0); while (true); }); while (true);"), timeout=8)
    assert answer.status in (500, 504) or not answer.complete
    wait_for(lambda: not Process(pid).alive, "its end", timeout=3)
    assert serves(s) != pid


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_workers_that_ignore_signals_end_with_their_pool(server, folder, spawn):
    """An idle worker whose last script has turned signals off, and one that runs such a script."""
    s = server(pools=local(folder, **{"pm.max_children": 2, "php.spawn": spawn}, **FFI), process_control_timeout="1s").start()
    quick, endless = s.script("quick.php", IGNORE + "echo getmypid();"), s.script("loop.php", IGNORE + "while (true);")
    assert s.request(quick).text
    running = Later(lambda: s.request(endless, timeout=12))
    busy(s)
    php = [Process(each.pid) for each in s.processes("php-cgi")]
    s.signal(signal.SIGQUIT)
    assert s.wait(6) == 0
    answer = running.result()
    assert isinstance(answer, fcgi.Response) and not (answer.complete and answer.status == 200)
    wait_for(lambda: not any(each.alive for each in php), "the end of all php-cgi", timeout=3)


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_a_worker_that_is_to_end_and_does_not_is_killed(server, folder, spawn):
    """Its script has turned signals off and put something in the way of exit()."""
    s = server(pools=local(folder, **{"pm.max_requests": 1, "php.spawn": spawn}, **FFI, **LIMITS)).start()
    script = s.script("stay.php", IGNORE + """$exit = FFI::cdef('int on_exit(int (*)(void), void *); int pause(void);');
        $exit->on_exit($exit->pause, null); echo getmypid();""")
    pid = int(s.request(script, timeout=8).text)
    started = time.monotonic()
    assert serves(s) != pid and time.monotonic() - started < 2
    wait_for(lambda: not Process(pid).alive, "its end", timeout=4)


def test_signals_that_a_script_turned_off_do_not_hurt_the_next_request(server, folder):
    """The worker lives, as its script ended in time; the next request on it is bounded like any other."""
    s = server(pools=local(folder, **FFI, **LIMITS)).start()
    assert int(s.request(s.script("quick.php", IGNORE + "echo getmypid();")).text)
    started = time.monotonic()
    assert s.request(s.script("loop.php", "while (true);"), timeout=8).status in (500, 504)
    assert time.monotonic() - started < 3.5
    assert serves(s)


PART = "echo str_repeat('part ', 2000); flush();"


@pytest.mark.parametrize("end", ["while (true);", IGNORE + "while (true);", "posix_kill(getmypid(), SIGKILL); sleep(9);"],
                         ids=["time-out", "time-out by force", "death"])
@pytest.mark.parametrize("keep", [False, True])
def test_an_answer_that_was_cut_does_not_look_whole(server, folder, keep, end):
    s = server(pools=local(folder, **FFI, **LIMITS)).start()
    script = s.script("part.php", PART + end)
    with s.connect(timeout=8) as c:
        answer = c.request(script, keep=keep)
    assert answer.text.startswith("part part ")
    assert answer.closed and not answer.complete, (answer.app_status, answer.protocol_status)
    assert serves(s)


def test_an_answer_that_was_cut_on_a_shared_connection_tells(server, folder):
    """The connection is not cut under the other request, which runs from 0.8 s to 2.4 s; the limit is at 2 s."""
    s = server(pools=local(folder, **{"pm.max_children": 2}, **FFI, **{**LIMITS, "request_terminate_timeout": "2s"})).start()
    cut, sleep = s.script("part.php", PART + "while (true);"), s.script("sleep.php", SLEEP)
    with s.connect(timeout=8) as c:
        c.start(cut, request_id=1, keep=True)
        assert c.read_record()[0] == fcgi.STDOUT
        ends = []
        for milliseconds, count in ((800, 1), (1600, 3)):
            c.start(sleep, request_id=2, keep=True, query=f"ms={milliseconds}")
            while len(ends) < count:
                kind, number, content = c.read_record()
                if kind == fcgi.END:
                    ends.append((number, *struct.unpack("!IB3x", content)))
    assert [number for number, _, _ in ends] == [2, 1, 2]
    assert ends[0] == ends[2] == (2, 0, fcgi.REQUEST_COMPLETE)
    assert ends[1][1] != 0
