"""What the master does for its processes, and what it does not let others do to it."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import fcgi
import php
from server import TQFPM, Process, in_parallel, wait_for


# --- what root runs and opens ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("test", [False, True])
def test_root_does_not_run_what_the_pools_user_may_change(server, folder, test):
    """php.binary is asked for its version as the pool's user, at a start and by -t."""
    wrapper = folder / "php-cgi"
    wrapper.write_text(f"#!/bin/sh\nid -u >>{folder}/uids\nexec {php.CGI} \"$@\"\n")
    wrapper.chmod(0o755)
    (folder / "uids").touch(mode=0o666)
    (folder / "uids").chmod(0o666)
    s = server(pools={"www": {"php.binary": wrapper}})
    if test:
        code, output = s.run("-t")
        assert code == 0, output
    else:
        s.start()
    uids = set((folder / "uids").read_text().split())
    assert uids and "0" not in uids, uids


def test_what_a_php_binary_prints_without_end_is_bounded(server, folder):
    endless = folder / "php-cgi"
    endless.write_text("#!/bin/sh\necho 'PHP 8.2.0 (cgi-fcgi)'; exec head -c 200000000 /dev/zero\n")
    endless.chmod(0o755)
    s = server(pools={"www": {"php.binary": endless}})
    process = subprocess.Popen(s.command("-t"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss < 150 * 1024, f"{usage.ru_maxrss} kB for 200 MB of output"


def link_by(user, path, target):
    os.symlink(target, path)
    os.lchown(path, shutil._get_uid(user), shutil._get_gid(user))


@pytest.mark.parametrize("directive", ["access.log", "slowlog"])
@pytest.mark.parametrize("where", ["file", "folder"])
def test_root_follows_no_link_of_the_pools_user_to_a_log(server, folder, directive, where):
    logs = folder / "logs"
    logs.mkdir()
    shutil.chown(logs, "www-data")
    secret = folder / "secret"
    secret.mkdir()
    if where == "file":
        link_by("www-data", logs / "a.log", secret / "a.log")
        path = logs / "a.log"
    else:
        link_by("www-data", logs / "there", secret)
        path = logs / "there" / "a.log"
    s = server(pools={"www": {directive: path, "request_slowlog_timeout": "1s" if directive == "slowlog" else None}})
    code, output = s.run()
    assert code == 78 and "symbolic link of user" in output + s.log, output + s.log
    assert not list(secret.iterdir())


def test_a_reopened_log_is_not_where_a_link_of_the_pools_user_leads(server, folder):
    logs = folder / "logs"
    logs.mkdir()
    shutil.chown(logs, "www-data")
    s = server(pools={"www": {"access.log": logs / "a.log"}}).start()
    (logs / "a.log").unlink()
    link_by("www-data", logs / "a.log", folder / "secret")
    s.signal(signal.SIGUSR1)
    s.wait_log("ERROR: .*symbolic link of user .*the old one stays open")
    assert not (folder / "secret").exists()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_links_of_root_are_followed(server, folder):
    os.symlink(folder / "real", folder / "access.log")
    s = server(pools={"www": {"access.log": folder / "access.log"}}).start()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    wait_for(lambda: (folder / "real").exists() and "a.php" in (folder / "real").read_text(), "a line in the log")


def test_a_log_may_be_a_descriptor_of_another_process(server):
    """/proc/1/fd/2 is what containers use for it."""
    reader, writer = os.pipe()
    s = server(pools={"www": {"access.log": f"/proc/{os.getpid()}/fd/{writer}"}}).start()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert b"a.php" in os.read(reader, 65536)
    for fd in (reader, writer):
        os.close(fd)


def test_a_dispatchers_account_is_not_a_pools_user(server):
    s = server(**{"dispatcher.user": "www-data"})
    code, output = s.run()
    assert code == 78, output
    assert re.search(r"dispatcher\.user", output + s.log), output + s.log


# --- what scripts get -----------------------------------------------------------------------------------------------

def test_scripts_do_not_get_the_limit_of_descriptors_of_a_dispatcher(server, folder):
    limited = folder / "tqfpm"
    limited.write_text(f"#!/bin/sh\nulimit -n 3000\nexec {TQFPM} \"$@\"\n")
    limited.chmod(0o755)
    s = server(binary=str(limited)).start()
    own = re.search(r"Max open files +(\d+) +(\d+)", Process(s.pid).read("limits")).groups()
    assert own == ("3000", "3000")
    for process in s.all_workers() + s.templates():
        assert re.search(r"Max open files +(\d+) +(\d+)", process.read("limits")).groups() == own, process


@pytest.mark.parametrize("dumpable", ["yes", "no"])
def test_a_template_is_never_dumpable(server, dumpable):
    s = server(pools={"www": {"process.dumpable": dumpable}}).start()
    s.all_workers()
    for process in s.templates():
        assert os.stat(f"/proc/{process.pid}/environ").st_uid == 0, "its memory is open to scripts"


# --- a stop ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_graceful_stop_refuses_who_comes_late(server, folder, kind):
    """Nobody waits in the backlog of a socket that nobody accepts from."""
    pool = {"listen": f"{folder}/s.sock", "listen.mode": "0666"} if kind == "unix" else {}
    s = server(pools={"www": {"pm.max_children": 1, **pool}}).start()
    (folder / "flags").mkdir()
    shutil.chown(folder / "flags", "www-data")
    script = s.script("wait.php", f"touch('{folder}/flags/began'); while (!file_exists('{folder}/flags/go')) usleep(1000); echo 'done';")
    with fcgi.Connection(s.address()) as connection:
        connection.start(script)
        wait_for((folder / "flags/began").exists)
        s.signal(signal.SIGQUIT)
        s.wait_log("Finishing")

        def refused():
            try:
                fcgi.Connection(s.address(), 1).close()
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            return False
        wait_for(refused, "a refused connection")
        (folder / "flags/go").touch()
        assert connection.finish().text == "done"
    s.wait()


# --- renewals -------------------------------------------------------------------------------------------------------

def test_scripts_that_kill_the_spawner_make_no_flood_of_processes(server, folder):
    """Each needs a new generation; they come more and more slowly, and there are never many."""
    s = server(pools={"www": {"pm.max_children": 4}}, process_control_timeout="5s").start()
    killer = s.script("kill.php", "posix_kill((int)$_GET['pid'], SIGKILL); echo 'shot';")
    plain = s.script("plain.php", "echo 'ok';")

    def delays():
        return [int(ms) for ms in re.findall(r"starting another dispatcher in (\d+) ms", s.log)]

    def shoot():
        for spawner in s.processes("tqfpm: spawner"):
            s.request(killer, query=f"pid={spawner.pid}")
        assert len(s.dispatchers()) <= 4
        return len(delays()) >= 5
    wait_for(shoot, "five renewals")
    assert delays()[:5] == [100, 200, 400, 800, 1600]
    wait_for(lambda: len(s.dispatchers()) == 1 and s.request(plain).text == "ok", "one dispatcher that serves")


# --- signals while a reload is checked --------------------------------------------------------------------------------

@pytest.fixture
def slow_check(folder):
    """A php-cgi whose -v takes as long as the file says: so does the check of a reload. (php.binary, file)"""
    slow = folder / "slow"
    wrapper = folder / "php-cgi"
    wrapper.write_text(f'#!/bin/sh\n[ "$2" = -v ] && [ -e {slow} ] && {{ touch {folder}/flags/checks; while [ -e {slow} ]; do sleep 0.01; done; }}\n'
                       f'exec {php.CGI} "$@"\n')
    wrapper.chmod(0o755)
    (folder / "flags").mkdir()
    shutil.chown(folder / "flags", "www-data")
    return wrapper, slow, folder / "flags/checks"


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_a_stop_while_a_reload_is_checked_is_obeyed(server, slow_check, number):
    wrapper, slow, checks = slow_check
    s = server(pools={"www": {"php.binary": wrapper}}).start()
    slow.touch()
    s.signal(signal.SIGUSR2)
    wait_for(checks.exists, "a check")
    s.signal(number)
    s.wait()
    assert "bye-bye" in s.log
    slow.unlink()


def test_the_master_does_its_work_while_a_reload_is_checked(server, slow_check):
    wrapper, slow, checks = slow_check
    s = server(pools={"www": {"php.binary": wrapper, "pm.max_children": 1}}).start()
    before = len(re.findall("ready to handle connections", s.log))
    slow.touch()
    s.signal(signal.SIGUSR2)
    wait_for(checks.exists, "a check")
    dispatcher, = s.dispatchers()
    os.kill(dispatcher.pid, signal.SIGKILL)
    s.wait_log(r"dispatcher exited on signal 9")
    wait_for(lambda: s.dispatchers() and s.dispatchers()[0].pid != dispatcher.pid, "another dispatcher")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    s.signal(signal.SIGUSR1)
    s.wait_log("log file re-opened")
    slow.unlink()
    s.wait_log("ready to handle connections", before + 1)


def test_a_reload_that_is_asked_for_during_a_check_is_done_after_it(server, slow_check):
    wrapper, slow, checks = slow_check
    s = server(pools={"www": {"php.binary": wrapper}}).start()
    slow.touch()
    s.signal(signal.SIGUSR2)
    wait_for(checks.exists, "a check")
    s.pools["www"]["ping.response"] = "new"
    s.write()
    s.signal(signal.SIGUSR2)
    s.signal(signal.SIGUSR2)
    slow.unlink()
    wait_for(lambda: s.page("/ping").text == "new", "the new configuration")


def test_a_signal_at_any_moment_of_a_reload_is_obeyed(server):
    """A stop that comes anywhere between the order to reload and the new generation ends tqfpm."""
    for i in range(25):
        s = server(pools={"www": {"pm.max_children": 1}}).start()
        s.signal(signal.SIGUSR2)
        time.sleep(i * 0.008)  # the moment is what is tried
        s.signal(signal.SIGQUIT)
        s.wait()
        assert "bye-bye" in s.log, (i, s.log[-2000:])
        s.close()


# --- who stands still -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["dispatcher", "spawner", "template"])
def test_a_process_that_stands_still_is_replaced(server, kind):
    """SIGSTOP, for ever: any script can do that to a spawner and a template."""
    s = server(pools={"www": {"pm.max_children": 2}}, watchdog_timeout="2s").start()
    plain = s.script("plain.php", "echo getmypid();")
    workers = s.all_workers()
    stopped = {"dispatcher": s.dispatchers, "spawner": lambda: s.processes("tqfpm: spawner"), "template": s.templates}[kind]()[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    if kind != "dispatcher":  # which are needed when something is to be started
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
    if kind == "spawner":
        os.kill(s.templates()[0].pid, signal.SIGKILL)

    def served():
        try:
            return s.request(plain, timeout=1).status == 200
        except (OSError, TimeoutError):
            return False
    begin = time.monotonic()
    wait_for(served, lambda: "a request that is served\n" + s.log[-2000:])
    print(f"{kind}: served again after {time.monotonic() - begin:.1f} s")
    wait_for(lambda: not stopped.alive, "the end of the one that stood still")
    s.all_workers()
    assert len(s.dispatchers()) == 1 or wait_for(lambda: len(s.dispatchers()) == 1, "one dispatcher")
    s.signal(signal.SIGTERM)
    s.wait()


def test_the_master_ends_a_drain_that_nobody_else_ends(server, folder):
    s = server(pools={"www": {"pm.max_children": 1}}, process_control_timeout="1s").start()
    old, = s.dispatchers()
    os.kill(old.pid, signal.SIGSTOP)
    s.reload()
    wait_for(lambda: not old.alive, "the end of the old dispatcher")
    s.wait_log(rf"WARNING: .*dispatcher {old.pid} does not (answer|finish in time), killing it")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_who_answers_is_not_killed(server):
    """Also one that has much to do, while nobody has any time."""
    s = server(pools={"www": {"pm.max_children": 2}}, watchdog_timeout="1s").start()
    before = s.dispatchers()[0].pid
    plain = s.script("plain.php", "for ($i = 0; $i < 300000; $i++) crc32((string)$i); echo 'ok';")
    end = time.monotonic() + 4  # several times the limit: nothing is to happen
    while time.monotonic() < end:
        assert all(answer.text == "ok" for answer in in_parallel(16, lambda _: s.request(plain)))
    assert s.dispatchers()[0].pid == before
    assert "does not answer" not in s.log
