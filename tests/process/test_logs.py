"""Where log lines go and what happens when they cannot: files, pipes nobody reads, syslog, full disks; text and JSON."""
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from server import Process, wait_for

# Writes n lines of 1000 bytes to standard error.
MUCH = "$f = fopen('php://stderr', 'w'); for ($i = 0; $i < $_GET['n']; $i++) fwrite($f, str_repeat('y', 999) . \"\\n\"); echo 'done';"
NOISY = {"www": {"catch_workers_output": "yes"}}


def in_private_mounts(s, *before):
    """Starts the server where what is mounted is seen by it alone."""
    words = " ".join(f"'{word}'" for word in s.command())
    s.process = subprocess.Popen(["unshare", "-m", "sh", "-ec", "; ".join([*before, f"exec {words}"])], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_serving(s):
    def pong():
        assert s.process.poll() is None
        try:
            return s.page("/ping").text == "pong"
        except OSError:
            return False
    wait_for(pong, "a pong")


def test_json_lines(server):
    s = server(pools=NOISY, log_format="json").start()
    script = s.script("a.php", "$f = fopen('php://stderr', 'w'); fwrite($f, \"bad \\xff, \\\"quoted\\\"\\n\"); echo 'ok';")
    assert s.request(script).text == "ok"
    s.wait_log("quoted")
    s.signal(signal.SIGQUIT)
    s.wait()
    lines = [json.loads(line) for line in s.log.splitlines()]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line["time"])
        assert line["level"] in ("debug", "notice", "warning", "error", "alert") and line["pid"] > 0 and "message" in line
    said, = [line for line in lines if "quoted" in line["message"]]
    assert said["message"] == "bad \ufffd, \"quoted\"" and said["stream"] == "stderr" and said["pool"] == "www" and said["child"] > 0
    assert [line["message"] for line in lines if line["pid"] == s.pid and line["level"] == "notice"] == [
        f"fpm is running, pid {s.pid}", "ready to handle connections", "Finishing ...", "exiting, bye-bye!"]


def test_a_fifo_that_nobody_reads_holds_up_nothing(server, folder):
    fifo = folder / "log"
    os.mkfifo(fifo)
    s = server(pools=NOISY, error_log=fifo, log_level="notice", log_limit=4096)
    s.start(ready=False)
    wait_serving(s)
    script = s.script("much.php", MUCH)
    begin = time.monotonic()
    for _ in range(5):
        assert s.request(script, query="n=1000").text == "done"
    assert s.page("/ping").text == "pong"
    assert time.monotonic() - begin < 10
    got = b""
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        def counts():
            nonlocal got
            try:
                got += reader.read() or b""
            except BlockingIOError:
                pass
            told = re.findall(rb"WARNING: (\d+) log lines were lost, the log could not be written\n", got)
            return sum(map(int, told)), got.count(b'"' + b"y" * 999 + b'"\n')
        wait_for(lambda: sum(counts()) == 5000, "each line is there or told as lost")
        lost, kept = counts()
    assert lost > 1000 and kept >= 900  # 1 MB was kept for later
    assert got.startswith(b"[") and b"NOTICE: ready to handle connections\n" in got


def test_a_full_pipe_at_standard_error(server):
    """As in a container whose log driver has stopped reading. The description is the caller's: it stays as it was."""
    reader, writer = os.pipe()
    s = server(options=["-F", "-O"], pools=NOISY, log_level="notice")
    s.process = subprocess.Popen(s.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer)
    wait_serving(s)
    script = s.script("much.php", MUCH)
    for _ in range(3):
        assert s.request(script, query="n=1000").text == "done"
    assert fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    os.close(writer)
    begin = time.monotonic()
    s.signal(signal.SIGTERM)
    assert s.wait() == 0  # what cannot be written is not waited for
    assert time.monotonic() - begin < 5
    os.close(reader)


@pytest.mark.parametrize("what,length,count", [("error_log", 3000, 8000), ("access.log", 8000, 3000)])
def test_a_disk_that_is_full_for_a_while(server, folder, what, length, count):
    """More lines than the 16 MB that are kept for a file."""
    disk = folder / "disk"
    disk.mkdir()
    (pool,) = NOISY.values()
    access = {"access.format": "%m %r " + "a" * length, "access.log": disk / "access"} if what == "access.log" else {}
    s = server(pools={"www": {**pool, **access}}, log_level="notice", log_limit=4096, **({"error_log": disk / "error"} if what == "error_log" else {}))
    in_private_mounts(s, f"mount -t tmpfs -o size=64k none {disk}", f"head -c 60000 /dev/zero >{disk}/filler")
    wait_serving(s)
    if what == "error_log":
        script = s.script("much.php", MUCH.replace("999", str(length)))
        assert s.request(script, query=f"n={count}").text == "done"
    else:
        script = s.script("a.php", "echo 'done';")
        with s.connect() as connection:
            for _ in range(count):
                assert connection.request(script).text == "done"
    inside = f"/proc/{s.pid}/root{disk}"
    os.truncate(f"{inside}/filler", 0)
    subprocess.run(["nsenter", "-t", str(s.pid), "-m", "mount", "-o", "remount,size=64m", str(disk)], check=True)
    name = "error" if what == "error_log" else "access"
    error_log = f"{inside}/error" if what == "error_log" else s.log_path
    told = r"WARNING: (\[pool www\] )?(\d+) (log lines were lost, the log could not be written|lines of access.log were lost, it could not be written)\n"
    lost = int(wait_for(lambda: re.search(told, open(error_log).read()), "the loss is told")[2])
    mark = "y" * length if what == "error_log" else "a" * length
    pings = "GET /ping " + mark

    def lines():
        text = open(f"{inside}/{name}").read()
        return lost + text.count(mark) in (count, count + text.count(pings)) and text.splitlines()
    assert lost > 0
    assert not [line for line in wait_for(lines, "each line is there or told as lost") if not re.match(r"\[|GET |POST ", line)]  # none was cut


def test_syslog(server, folder):
    socket_path = folder / "log.sock"
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(socket_path))
    os.chmod(socket_path, 0o666)
    log.settimeout(20)
    s = server(pools=NOISY, error_log="syslog", log_level="notice", log_limit=4096, **{"syslog.ident": "my-php", "syslog.facility": "local3"})
    # /dev is a folder of its own there: what is in it else stays reachable.
    dev = folder / "dev"
    dev.mkdir()
    links = "for f in /dev/*; do [ -d $f ] || cp -a $f %s/; done" % dev
    in_private_mounts(s, links, f"ln -s {socket_path} {dev}/log", f"mount --bind {dev} /dev")
    words = []

    def heard(pattern):
        while True:
            words.append(log.recv(65536).decode())
            if re.fullmatch(pattern, words[-1]):
                return words[-1]

    facility = 19 << 3
    day = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    heard(rf"<{facility | 5}>{day} my-php\[{s.pid}\]: \[NOTICE\] fpm is running, pid {s.pid}")
    heard(rf"<{facility | 5}>{day} my-php\[{s.pid}\]: \[NOTICE\] ready to handle connections")
    script = s.script("a.php", "file_put_contents('php://stderr', \"hello\\n\"); echo 'ok';")
    assert s.request(script).text == "ok"
    dispatcher, = s.dispatchers()
    heard(rf'<{facility | 4}>{day} my-php\[{dispatcher.pid}\]: \[WARNING\] \[pool www\] child \d+ said into stderr: "hello"')
    # A daemon that starts anew is found again, one that does not read holds up nothing.
    log.close()
    socket_path.unlink()
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(socket_path))
    os.chmod(socket_path, 0o666)
    log.settimeout(20)
    much = s.script("much.php", MUCH)
    assert s.request(much, query="n=3000").text == "done"
    heard(r".*(y{999}).*")
    s.signal(signal.SIGUSR1)
    heard(rf".*\[NOTICE\] error log file re-opened")


def test_output_is_logged_as_it_comes_without_log_buffering(server):
    code = "$f = fopen('php://stderr', 'w'); fwrite($f, 'half '); usleep(600000); fwrite($f, \"line\\n\"); echo 'ok';"
    for buffering in ("yes", "no"):
        s = server(pools=NOISY, log_buffering=buffering, log_level="notice").start()
        assert s.request(s.script("a.php", code)).text == "ok"
        s.wait_log("line\"" if buffering == "no" else "half line")
        said = re.findall(r'said into stderr: "(.*)"', s.log)
        assert said == (["half line"] if buffering == "yes" else ["half ", "line"])


def test_what_clients_send_forges_no_lines(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("die.php", "posix_kill(getmypid(), 9);")
    evil = "/x\n[25-Nov-2026 00:00:00] NOTICE: forged\x1b[0m"
    s.request(script, extra={"REQUEST_URI": evil})
    s.wait_log(r"failed: child \d+ exited on signal 9")
    assert not [line for line in s.log.splitlines() if line.startswith("[25-Nov-2026 00:00:00]")]
    assert r"/x\x0a[25-Nov-2026 00:00:00] NOTICE: forged\x1b[0m" in s.log


def test_the_log_goes_on_after_reopening_and_reload(server, folder):
    """Standard error as a log is the caller's pipe, through SIGUSR1 and SIGUSR2 as well."""
    s = server(options=["-F", "-O"], log_level="notice")
    s.log_path = folder / "stderr"
    s.start()
    s.signal(signal.SIGUSR1)
    s.reload()
    assert s.page("/ping").text == "pong"
    assert Process(s.pid).alive and s.log.count("ready to handle connections") == 2
