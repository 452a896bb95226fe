"""Each signal, with requests in progress; reloads under load; processes that die."""
import os
import re
import signal
import threading
import time

import pytest

import fcgi
from server import Process, descendants, wait_for

SLEEP = "usleep((int)($_GET['ms'] ?? 0) * 1000); echo 'done ', getmypid();"


class Later(threading.Thread):
    """A request that runs while the test goes on."""

    def __init__(self, server, script, **how):
        super().__init__()
        self.response = None
        self.call = lambda: server.request(script, **how)
        self.start()

    def run(self):
        self.response = self.call()

    def result(self):
        self.join(60)
        return self.response


def busy(server, count=1):
    wait_for(lambda: server.status()["active processes"] == count, f"{count} busy workers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fast_stop(server, number):
    s = server().start()
    script = s.script("sleep.php", SLEEP)
    request = Later(s, script, query="ms=20000")
    busy(s)
    php = descendants(s.pid)
    started = time.monotonic()
    s.signal(number)
    assert s.wait() == 0
    assert time.monotonic() - started < 5
    assert not request.result().complete
    assert [p for p in php if Process(p).alive] == []
    assert not s.pid_path.exists()
    s.wait_log("Terminating ...")
    s.wait_log("exiting, bye-bye!")


def test_graceful_stop_finishes_what_has_come(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("sleep.php", SLEEP)
    running = Later(s, script, query="ms=500")
    busy(s)
    queued = Later(s, script, query="ms=100")
    wait_for(lambda: s.status()["listen queue"] == 1, "a queued request")
    s.signal(signal.SIGQUIT)
    assert running.result().text.startswith("done") and queued.result().text.startswith("done")
    assert s.wait() == 0
    s.wait_log("Finishing ...")


def test_graceful_stop_is_bounded_by_process_control_timeout(server):
    s = server(process_control_timeout="1s").start()
    request = Later(s, s.script("sleep.php", SLEEP), query="ms=60000")
    busy(s)
    s.signal(signal.SIGQUIT)
    assert s.wait(20) == 0
    assert not request.result().complete


def test_sigterm_after_sigquit_ends_at_once(server):
    s = server().start()
    request = Later(s, s.script("sleep.php", SLEEP), query="ms=60000")
    busy(s)
    s.signal(signal.SIGQUIT)
    s.wait_log("Finishing ...")
    s.signal(signal.SIGTERM)
    assert s.wait(10) == 0
    request.result()


def test_reopen_logs(server, folder):
    access = folder / "access.log"
    s = server(pools={"www": {"access.log": access, "access.format": "%m %r %s"}}).start()
    script = s.script("a.php", "echo 'x';")
    s.request(script)
    wait_for(lambda: access.read_text() == "GET /a.php 200\n")
    access.rename(folder / "access.old")
    s.log_path.rename(folder / "error.old")
    s.signal(signal.SIGUSR1)
    wait_for(lambda: access.exists() and s.log_path.exists())
    s.wait_log("error log file re-opened")
    s.wait_log("access log file re-opened")

    def lands_in_the_new_file():
        s.request(script)
        return "GET /a.php 200\n" in access.read_text()

    wait_for(lands_in_the_new_file)
    worker = s.all_workers()[0].pid
    os.kill(worker, signal.SIGKILL)  # the dispatcher logs to the new file, too
    s.wait_log(rf"child {worker} exited on signal 9")


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP])
def test_reload_takes_up_a_changed_configuration(server, number):
    s = server().start()
    script = s.script("env.php", "echo getenv('V');")
    pid = s.pid
    s.pools["www"]["env[V]"] = "two"
    s.write()
    s.signal(number)
    s.wait_log("ready to handle connections", 2)
    assert s.request(script).text == "two"
    assert s.process.poll() is None and Process(pid).title.startswith("tqfpm: master")
    wait_for(lambda: len(s.dispatchers()) == 1, "the old generation ends")
    assert s.pid_path.read_text().strip() == str(pid)


def test_reload_finishes_a_running_request_and_keeps_counting(server):
    s = server().start()
    script = s.script("sleep.php", SLEEP)
    request = Later(s, script, query="ms=1500")
    busy(s)
    before = s.status()["accepted conn"]
    s.reload()
    assert s.request(script).complete  # by the new generation, at once
    assert request.result().text.startswith("done")
    assert s.status()["accepted conn"] > before


def test_reload_with_a_broken_configuration_changes_nothing(server):
    s = server().start()
    script = s.script("a.php", "echo 'ok';")
    workers = {w.pid for w in s.all_workers()}
    s.extra = "\nmp.max_children = 3\n"
    s.write()
    s.signal(signal.SIGUSR2)
    s.wait_log("the reload is refused and everything goes on as it was")
    assert "mp.max_children" in s.log
    assert s.request(script).text == "ok"
    assert {w.pid for w in s.workers()} == workers


def test_reload_adds_and_removes_pools(server):
    s = server(pools={"a": {}, "b": {}}).start()
    script = s.script("a.php", "echo 'ok';")
    gone = s.address("b")
    s.pools["c"] = {**s.pools.pop("b"), "listen": s.folder / "c.sock"}
    s.write()
    s.reload()
    assert s.request(script, "a").text == "ok" and s.request(script, "c").text == "ok"
    wait_for(lambda: s.dispatchers("b") == [], "pool b ends")
    with pytest.raises(ConnectionRefusedError):
        fcgi.request(gone, script)
    s.reload()
    assert s.request(script, "c").text == "ok"


def test_reload_where_a_new_pool_cannot_listen_keeps_the_others(server):
    s = server(pools={"a": {}}).start()
    script = s.script("a.php", "echo 'ok';")
    s.pools["b"] = {**s.pools["a"], "listen": s.folder / "missing" / "b.sock", "pm.status_listen": None}
    s.write()
    s.reload()
    assert s.request(script, "a").text == "ok"
    assert re.search(r"ERROR: .*\[pool b\] .*missing/b.sock.*; this pool is not started", s.log), s.log


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_reloads_under_load_lose_nothing(server, keep, spawn):
    s = server(pools={"www": {"pm.max_children": 3, "php.spawn": spawn}}).start()
    script = s.script("id.php", "usleep(1000); echo $_GET['i'];")
    stop, failed, served = threading.Event(), [], [0] * 4

    def client(number):
        connection = s.connect() if keep else None
        while not stop.is_set():
            served[number] += 1
            expected = f"{number}-{served[number]}"
            try:
                answer = connection.request(script, query="i=" + expected) if keep else s.request(script, query="i=" + expected)
                good = answer.complete and answer.text == expected
            except OSError as error:
                good, answer = False, error
            if not good:
                failed.append((expected, answer))
                return

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(served))]
    for each in threads:
        each.start()
    for _ in range(8):
        before = list(served)
        s.reload()
        wait_for(lambda: all(now > then + 3 for now, then in zip(served, before)) or failed, "requests between reloads")
    stop.set()
    for each in threads:
        each.join()
    assert failed == []
    wait_for(lambda: len(s.dispatchers()) == 1, "old generations end")


def test_reloads_on_top_of_each_other(server):
    s = server().start()
    script = s.script("a.php", "echo 'ok';")
    for _ in range(10):
        s.signal(signal.SIGUSR2)
        assert s.request(script).text == "ok"
    s.reload()
    wait_for(lambda: len(s.dispatchers()) == 1, "one generation")
    assert s.request(script).text == "ok"


def test_a_worker_that_dies_costs_only_its_own_request(server):
    s = server(pools={"www": {"pm.max_children": 2}}).start()
    other = Later(s, s.script("sleep.php", SLEEP), query="ms=500")
    busy(s)
    answer = s.request(s.script("die.php", "posix_kill(getmypid(), SIGSEGV); sleep(5);"))
    assert answer.status == 502 and answer.complete
    assert other.result().text.startswith("done")
    s.wait_log(r"WARNING: .*\[pool www\] child \d+ exited on signal 11 \(SIGSEGV")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    wait_for(lambda: len(s.workers()) == 2)


def test_a_worker_that_dies_in_mid_answer(server):
    """What was sent cannot be taken back: the connection ends without an END_REQUEST, so that nobody takes it for whole."""
    s = server().start()
    answer = s.request(s.script("die.php", "echo str_repeat('x', 100000); flush(); posix_kill(getmypid(), SIGKILL); sleep(5);"))
    assert answer.stdout.count(b"x") > 0 and not answer.complete and answer.closed


def test_a_dead_template_is_replaced(server):
    s = server(pools={"www": {"pm.max_children": 2, "pm.max_requests": 3}}).start()
    script = s.script("a.php", "echo 'ok';")
    old, = s.templates()
    os.kill(old.pid, signal.SIGKILL)
    for _ in range(20):
        assert s.request(script).text == "ok"
    wait_for(lambda: any(t.pid != old.pid for t in s.templates()))


def test_a_dead_spawner_means_a_new_generation(server):
    s = server().start()
    script = s.script("a.php", "echo 'ok';")
    old, = s.dispatchers()
    os.kill(s.processes("tqfpm: spawner www")[0].pid, signal.SIGKILL)
    wait_for(lambda: [d.pid for d in s.dispatchers()] not in ([old.pid], []) and len(s.dispatchers()) == 1, "a new dispatcher")
    assert s.request(script).text == "ok"


def test_a_dead_dispatcher_is_replaced_and_its_workers_end(server):
    s = server().start()
    script = s.script("a.php", "echo 'ok';")
    old, = s.dispatchers()
    workers = s.all_workers() + s.templates()
    os.kill(old.pid, signal.SIGKILL)
    s.wait_log(r"\[pool www\] dispatcher exited on signal 9")
    wait_for(lambda: s.dispatchers() and s.dispatchers()[0].pid != old.pid)
    assert s.request(script).text == "ok"
    wait_for(lambda: not any(w.alive and "php-cgi" in w.title for w in workers), "the old workers end")


def test_a_dead_master_leaves_nothing(server):
    """Running requests finish, then everything goes: nothing holds the port."""
    s = server().start()
    script = s.script("sleep.php", SLEEP)
    request = Later(s, script, query="ms=700")
    busy(s)
    left = descendants(s.pid)
    s.process.kill()
    s.process.wait()
    assert request.result().text.startswith("done")
    wait_for(lambda: not any(Process(p).alive for p in left), "the end of everything")
    with pytest.raises(ConnectionRefusedError):
        s.request(script)
    s.process = None


CRASH = "posix_kill(getmypid(), SIGSEGV); sleep(5);"


def test_too_many_crashes_renew_the_template_and_lose_no_request(server):
    s = server(pools={"www": {"pm.max_children": 3, "php_admin_value[apc.enabled]": 1}}, emergency_restart_threshold=3,
               emergency_restart_interval="1m").start()
    count = s.script("count.php", "echo apcu_inc('n');")
    crash = s.script("crash.php", CRASH)
    template, = s.templates()
    workers = {w.pid for w in s.all_workers()}
    assert [s.request(count).text for _ in range(3)] == ["1", "2", "3"]
    running = Later(s, s.script("sleep.php", SLEEP), query="ms=1500")
    busy(s)
    for _ in range(3):
        assert s.request(crash).status == 502
    s.wait_log("emergency restart: too many workers have died")
    wait_for(lambda: any(t.pid != template.pid for t in s.templates()), "a new template")
    assert running.result().text.startswith("done")
    wait_for(lambda: not workers & {w.pid for w in s.workers()} and len(s.workers()) == 3, "all workers are new")
    assert s.request(count).text == "1"  # fresh shared memory
    assert len(s.dispatchers()) == 1


def test_fewer_crashes_than_the_threshold_change_nothing_else(server):
    s = server(pools={"www": {"pm.max_children": 2}}, emergency_restart_threshold=3, emergency_restart_interval="1m").start()
    template, = s.templates()
    for _ in range(2):
        assert s.request(s.script("crash.php", CRASH)).status == 502
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert [t.pid for t in s.templates()] == [template.pid]


@pytest.mark.parametrize("retry, method, expected", [("yes", "GET", 200), ("no", "GET", 502), ("yes", "POST", 502)])
def test_request_retry(server, folder, retry, method, expected):
    """The script crashes the first time that it runs."""
    s = server(pools={"www": {"request_retry": retry}}).start()
    folder.chmod(0o777)
    script = s.script("once.php", f"if (!file_exists('{folder}/once')) {{ touch('{folder}/once'); {CRASH} }} echo 'second';")
    answer = s.request(script, method=method)
    assert answer.status == expected
    assert (answer.text == "second") == (expected == 200)


def test_request_retry_happens_once(server):
    s = server(pools={"www": {"request_retry": "yes"}}).start()
    assert s.request(s.script("crash.php", CRASH)).status == 502
    assert len(re.findall(r"child \d+ exited on signal 11 \(.*\) after", s.log)) == 2
    assert s.log.count("; trying it once more on another worker") == 1


ENDLESS = {
    "sleeps": "sleep(60);",
    "loops": "while (true);",
    "blocked read": "$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); while (true) fread($pair[0], 1);",
    "never ends its shutdown": "register_shutdown_function(function () { while (true); }); while (true);",
    "stopped": "posix_kill(getmypid(), SIGSTOP); while (true);",
}


@pytest.mark.parametrize("how", ENDLESS)
def test_request_terminate_timeout(server, how):
    s = server(pools={"www": {"pm.max_children": 1, "request_terminate_timeout": "1s", "request_terminate_grace": "1s"}}).start()
    started = time.monotonic()
    answer = s.request(s.script("endless.php", ENDLESS[how]))
    took = time.monotonic() - started
    assert answer.complete and answer.status in (500, 504), answer
    assert 1 <= took < 6
    s.wait_log(r"\[pool www\] child \d+, script '.*endless.php' \(request: \"GET /endless.php\"\) execution timed out \(\d\.\d+ sec\), terminating")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_a_worker_that_is_killed_after_output_cuts_the_connection(server):
    s = server(pools={"www": {"request_terminate_timeout": "1s", "request_terminate_grace": "500ms"}}).start()
    answer = s.request(s.script("a.php", "echo str_repeat('x', 100000); flush(); posix_kill(getmypid(), SIGSTOP);"))
    assert answer.stdout.count(b"x") > 0 and answer.closed and not answer.complete
