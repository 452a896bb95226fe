"""Workers that leak, hang, loop, crash and leave things behind."""
import os
import re
import signal
import threading
import time

import pytest

from server import Process, descendants, in_parallel, wait_for

SLEEP = "usleep((int)($_GET['ms'] ?? 0) * 1000); echo getmypid();"


def metric(server, name):
    """A counter, as the OpenMetrics page shows it."""
    found = re.search(rf"^tqfpm_{name}(?:_total)?(?:{{[^}}]*}})? (\d+)$", server.page("/status", "openmetrics").text, re.M)
    assert found, name
    return int(found[1])


# --- process.max ----------------------------------------------------------------------------------------------------

def test_process_max_bounds_all_pools_together(server):
    ondemand = {"pm": "ondemand", "pm.max_children": 5, "pm.process_idle_timeout": "1s"}
    s = server(pools={"a": dict(ondemand), "b": dict(ondemand)}, **{"process.max": 3}).start()
    script = s.script("sleep.php", SLEEP)
    most = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            most.append(len(s.workers("a")) + len(s.workers("b")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    pids = in_parallel(12, lambda i: s.request(script, "ab"[i % 2], query="ms=200").text)
    done.set()
    watcher.join()
    assert all(pids) and max(most) <= 3 and len(set(pids)) >= 3
    assert re.search(r"WARNING: .*The maximum number of processes has been reached\. .*'process\.max' \(3\)", s.log)
    wait_for(lambda: not s.workers("a") + s.workers("b"), "idle workers end")
    # What a dispatcher that died had is free again.
    assert s.request(script, "a").text
    os.kill(s.dispatchers("a")[0].pid, signal.SIGKILL)
    wait_for(lambda: not s.workers("a") and s.dispatchers("a"), "a new dispatcher")
    assert len(set(in_parallel(3, lambda i: s.request(script, "b", query="ms=300").text))) == 3
    # The count goes over to the next image of the master.
    s.reload()
    assert len(set(in_parallel(6, lambda i: s.request(script, "b", query="ms=100").text))) <= 3


# --- recycling ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_recycling_under_load_fails_no_request(server, spawn):
    s = server(pools={"www": {"pm.max_children": 4, "pm.max_requests": 5, "php.spawn": spawn}}, log_level="notice").start()
    script = s.script("id.php", "echo getmypid(), ' ', $_GET['i'];")
    count = 150 if spawn == "fork" else 25

    def client(number):
        texts = []
        for i in range(count):
            answer = s.request(script, query=f"i={number}-{i}")
            assert answer.status == 200 and answer.complete
            assert answer.text.endswith(f" {number}-{i}")
            texts.append(answer.text.split()[0])
        return texts

    results = in_parallel(6, client)
    served = {}
    for pid in sum(results, []):
        served[pid] = served.get(pid, 0) + 1
    assert max(served.values()) <= 5
    assert len(served) >= 6 * count / 5


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_max_memory_replaces_a_worker_between_requests(server, spawn):
    s = server(pools={"www": {"pm.max_children": 1, "pm.max_memory": "40M", "php.spawn": spawn, "php_value[memory_limit]": "512M"}}).start()
    light = s.script("light.php", "echo getmypid();")
    # What PHP's memory manager has goes back at the end of a request; compiled patterns stay.
    leak = s.script("leak.php", "for ($i = 0; $i < 2000; $i++) preg_match(\"/$i\" . str_repeat('(?:[a-z]x|y+)', 400) . '/', ''); echo getmypid();")
    first = s.request(light).text
    assert [s.request(light).text for _ in range(5)] == [first] * 5
    wait_for(lambda: s.request(leak).text != first, "it is replaced")
    s.wait_log(rf"NOTICE: .*child {first} has \d+ MiB of memory \(pm.max_memory\): it is replaced")
    wait_for(lambda: not Process(int(first)).alive, "its end")


def test_the_surplus_worker_with_the_most_memory_ends_first(server):
    s = server(pools={"www": {"pm": "dynamic", "pm.max_children": 4, "pm.start_servers": 1, "pm.min_spare_servers": 1,
                              "pm.max_spare_servers": 3}}).start()
    script = s.script("sleep.php", SLEEP)
    fat = s.script("fat.php", "static $all; $all = str_repeat(random_bytes(1000), 30000); usleep(300000); echo getmypid();")
    results = [None, None]

    def others():
        results[1] = in_parallel(3, lambda i: s.request(script, query="ms=300").text)

    thread = threading.Thread(target=others)
    thread.start()
    # The memory manager of PHP keeps what was in use for the next request.
    results[0] = s.request(fat).text
    thread.join()
    assert len({results[0], *results[1]}) == 4
    wait_for(lambda: len(s.workers()) == 3, "the surplus worker ends")
    assert int(results[0]) not in {w.pid for w in s.workers()}


# --- time-outs ------------------------------------------------------------------------------------------------------

def test_a_client_that_has_gone_does_not_make_a_script_endless(server):
    s = server(pools={"www": {"pm.max_children": 1, "request_terminate_timeout": "1s", "request_terminate_grace": "500ms"}}).start()
    script = s.script("endless.php", "ignore_user_abort(true); set_time_limit(0); posix_kill(getmypid(), SIGSTOP);")
    connection = s.connect()
    connection.start(script)
    wait_for(lambda: s.status()["active processes"] == 1, "it runs")
    connection.close()
    s.wait_log(r"child \d+, script '.*endless.php' \(request: \"GET /endless.php\"\) execution timed out \(\d\.\d+ sec\), terminating")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert metric(s, "workers_ended_timeout") == 1


def test_max_execution_time_stays_phps_own(server):
    s = server(pools={"www": {"pm.max_children": 1, "request_terminate_timeout": "20s", "php_value[max_execution_time]": "1",
                              "php_flag[display_errors]": "on"}}).start()
    pid = s.all_workers()[0].pid
    answer = s.request(s.script("loop.php", "register_shutdown_function(function () { echo 'shut down'; }); while (true);"))
    assert "Maximum execution time of 1 second exceeded" in answer.text and answer.text.endswith("shut down")
    assert [w.pid for w in s.workers()] == [pid]


def test_the_first_step_of_the_time_out_runs_shutdown_functions(server, folder):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1, "request_terminate_timeout": "1s", "request_terminate_grace": "10s"}}).start()
    pid = s.all_workers()[0].pid
    code = f"register_shutdown_function(function () {{ touch('{folder}/shut'); }}); while (true);"
    answer = s.request(s.script("loop.php", code))
    assert answer.status in (500, 504) and answer.complete
    assert (folder / "shut").exists()
    assert [w.pid for w in s.workers()] == [pid]  # it was an ordinary end: the worker goes on


# --- crashes --------------------------------------------------------------------------------------------------------

def test_the_log_says_all_of_a_crash(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    crash = s.script("crash.php", "posix_kill(getmypid(), SIGSEGV); sleep(5);")
    assert s.request(crash, extra={"REQUEST_ID": "night-7"}).status == 502
    s.wait_log(r"WARNING: .*\[pool www\] child \d+ exited on signal 11 \(SIGSEGV\) after \d+\.\d+ seconds from start")
    s.wait_log(rf'WARNING: .*\[pool www\] request night-7 "GET /crash.php" \(script {crash}\) failed: '
               r"child \d+ exited on signal 11 \(SIGSEGV\), \d+\.\d s old, 1 requests served")


def test_the_end_of_a_worker_is_not_told_by_its_last_failed_script(server):
    s = server(pools={"www": {"pm.max_children": 1}}, log_level="debug").start()
    assert s.request(s.script("throws.php", "throw new Exception('x');")).status == 500
    assert s.request(s.script("fine.php", "echo 'ok';")).text == "ok"
    s.signal(signal.SIGQUIT)
    s.wait()
    s.wait_log(r"child \d+ exited with code 255")
    assert not re.search(r"(NOTICE|WARNING): .*exited with code", s.log), s.log  # php-fpm says nothing, either


def test_a_crash_in_the_first_request_does_not_slow_down_the_pool(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    crash = s.script("crash.php", "posix_kill(getmypid(), SIGSEGV); sleep(5);")
    started = time.monotonic()
    assert [s.request(crash).status for _ in range(8)] == [502] * 8
    assert time.monotonic() - started < 5  # with delays of 0.1, 0.2, 0.4, ... it would be 25
    assert metric(s, "workers_ended_signal") == 8


@pytest.mark.parametrize("dumpable", ["yes", "no"])
def test_core_dumps_are_for_dumpable_workers(server, dumpable):
    s = server(pools={"www": {"process.dumpable": dumpable, "rlimit_core": "unlimited"}}).start()
    worker, *_ = s.all_workers()
    core = re.search(r"Max core file size +(\S+) +(\S+)", worker.read("limits"))
    assert core.groups() == (("unlimited",) * 2 if dumpable == "yes" else ("0", "0"))
    owner = os.stat(f"/proc/{worker.pid}/environ").st_uid  # root's if it is not dumpable
    assert (owner == worker.uids[0]) == (dumpable == "yes")


# --- descendants ----------------------------------------------------------------------------------------------------

# A daemon as from a book: two forks and a session of its own.
DAEMON = """$pid = pcntl_fork();
if ($pid == 0) { posix_setsid(); if (pcntl_fork() > 0) posix_kill(getmypid(), SIGKILL);
                 pcntl_exec('/bin/sleep', [$_GET['s'] ?? '100']); }
pcntl_waitpid($pid, $status); echo getmypid();"""
BACKGROUND = "exec('sleep ' . ($_GET['s'] ?? '100') . ' >/dev/null 2>&1 & echo $!', $out); echo getmypid(), ' ', $out[0];"


def sleepers(server):
    return [p for p in map(Process, descendants(server.pid)) if p.title.startswith(("sleep", "/bin/sleep")) and p.alive]


@pytest.mark.parametrize("spawn", ["fork", "exec"])
@pytest.mark.parametrize("kill", ["yes", "no"])
def test_what_a_script_leaves_behind(server, spawn, kill):
    s = server(pools={"www": {"pm.max_children": 2, "process.kill_descendants": kill, "php.spawn": spawn}}).start()
    wait_for(lambda: s.status()["idle processes"] == 2, "two workers")
    background, daemon = s.script("background.php", BACKGROUND), s.script("daemon.php", DAEMON)
    worker, count = int(s.request(background).text.split()[0]), 2
    while int(s.request(daemon).text) != worker:  # both of one worker
        count += 1
    wait_for(lambda: len(sleepers(s)) == count, "all of them run")
    left = sleepers(s)
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert len(sleepers(s)) == len(left)  # they outlive the request
    # The other worker's are not concerned by this one's end.
    others = [p for p in left if kill == "yes" and worker not in parents(p)]
    os.kill(worker, signal.SIGKILL)
    if kill == "yes":
        wait_for(lambda: {p.pid for p in sleepers(s)} == {p.pid for p in others}, "they are killed")
        s.wait_log(r"NOTICE: .*killed process \d+, left by a script whose worker has ended")
    else:
        wait_for(lambda: not Process(worker).alive and s.status()["idle processes"] == 2, "a new worker")
        assert len(sleepers(s)) == len(left)
    for each in left:
        if each.alive:
            os.kill(each.pid, signal.SIGKILL)
    wait_for(lambda: not s.zombies() or kill == "yes", "they are reaped")
    s.seen = set()


def parents(process):
    found, pid = set(), process.pid
    while pid > 1:
        pid = Process(pid).parent
        found.add(pid)
    return found


@pytest.mark.parametrize("kill", ["yes", "no"])
def test_what_a_script_leaves_behind_is_reaped(server, kill):
    s = server(pools={"www": {"pm.max_children": 1, "process.kill_descendants": kill}}).start()
    daemon = s.script("daemon.php", DAEMON)
    for _ in range(5):
        assert s.request(daemon, query="s=0").text
    ok = s.script("a.php", "echo 'ok';")

    def clean():
        assert s.request(ok).text == "ok"
        return not s.zombies() and not sleepers(s)

    wait_for(clean, "nothing is left")


# --- workers that are gone before anybody knows, and old generations that still need some --------------------------

def test_a_request_that_no_worker_has_seen_keeps_its_body(server):
    """The workers die while the dispatcher is stopped: it finds a dead one idle, and gives the request to another."""
    s = server(pools={"www": {"pm.max_children": 2}}).start()
    script = s.script("post.php", "echo md5(file_get_contents('php://input')), ' ', strlen(file_get_contents('php://input'));")
    dispatcher, = s.dispatchers()
    for _ in range(5):
        workers = s.all_workers()
        wait_for(lambda: s.status()["idle processes"] == 2, "both are idle")
        os.kill(dispatcher.pid, signal.SIGSTOP)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        connection = s.connect()
        connection.start(script, method="POST", body=b"x" * 100000)
        os.kill(dispatcher.pid, signal.SIGCONT)
        answer = connection.finish()
        assert answer.complete and (answer.status == 502 or answer.text.endswith(" 100000"))


@pytest.mark.parametrize("pm", ["static", "ondemand"])
def test_an_old_generation_starts_workers_for_what_is_queued(server, pm):
    s = server(pools={"www": {"pm": pm, "pm.max_children": 1, "pm.max_requests": 1, "queue.max_wait": "20s"}}).start()
    script = s.script("sleep.php", SLEEP)
    results = []
    threads = [threading.Thread(target=lambda: results.append(s.request(script, query="ms=100").status)) for _ in range(8)]
    for each in threads:
        each.start()
    wait_for(lambda: s.status()["listen queue"] >= 6, "they wait")
    s.reload()
    for each in threads:
        each.join()
    assert results == [200] * 8


@pytest.mark.serial  # hundreds of processes come at once
def test_a_pool_of_hundreds_starts_without_a_failure(server):
    s = server(pools={"www": {"pm.max_children": 400}}, log_level="notice").start()
    wait_for(lambda: s.status()["idle processes"] == 400, "all of them")
    assert "cannot start a worker" not in s.log


def test_exec_workers_end_with_their_dispatcher(server):
    s = server(pools={"www": {"pm.max_children": 2, "php.spawn": "exec"}}).start()
    wait_for(lambda: s.status()["idle processes"] == 2, "both")
    dispatcher, = s.dispatchers()
    workers = [p for p in descendants(dispatcher.pid) if "php-cgi" in Process(p).title]
    assert len(workers) == 2
    os.kill(dispatcher.pid, signal.SIGKILL)
    wait_for(lambda: not any(Process(p).alive for p in workers), "their end")


@pytest.mark.parametrize("work", ["", "echo str_repeat('x', 70000); flush();"])
def test_an_exec_worker_that_closes_its_connection_and_lives_comes_back(server, work):
    """The script shuts down the worker's connection under PHP's feet and goes on for a while."""
    s = server(pools={"www": {"pm.max_children": 1, "php.spawn": "exec", "php_admin_value[ffi.enable]": "1"}}).start()
    pid = s.request(s.script("pid.php", "echo getmypid();")).text
    script = s.script("cut.php", f"""{work} $libc = FFI::cdef('int shutdown(int, int);');
        for ($fd = 3; $fd < 20; $fd++) $libc->shutdown($fd, 2);
        ignore_user_abort(true); usleep(600000);""")
    started = time.monotonic()
    answer = s.request(script)
    assert time.monotonic() - started < 5
    assert answer.status == 502 and answer.complete if not work else not answer.complete
    assert s.request(s.script("pid.php", "echo getmypid();")).text == pid
    s.wait_log(r"request .* \(script .*cut.php\) failed: child \d+ closed its connection")
