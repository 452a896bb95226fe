"""How tqfpm comes up: foreground and background, root and not, uninstalled from anywhere; who its processes are."""
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess

import pytest

import php
from server import ROOT, TQFPM, Process, descendants, free_port, wait_for

WWW = pwd.getpwnam("www-data")


def test_pages_and_who_serves_them(server):
    s = server(pools={"www": {"pm.max_children": 3}}).start()
    pid = s.script("pid.php", "echo getmypid(), ' ', posix_getppid();")
    s.all_workers()
    worker, parent = map(int, s.request(pid).text.split())
    dispatcher, = s.dispatchers()
    assert worker in [w.pid for w in s.workers()]
    assert parent == dispatcher.pid
    assert dispatcher.parent == s.pid
    assert Process(s.pid).title.startswith("tqfpm: master process (" + str(s.config_path))
    assert [t.parent for t in s.templates()] == [dispatcher.pid]
    assert len(s.all_workers()) == 3
    assert s.page("/ping").text == "pong"


def test_every_process_has_only_the_rights_it_needs(server):
    s = server(pools={"www": {"group": "users"}}).start()
    dispatcher, = s.dispatchers()
    nobody = pwd.getpwnam("nobody")
    assert dispatcher.uids == [nobody.pw_uid] * 4
    assert dispatcher.groups == []
    kill = 1 << 5
    assert dispatcher.capabilities == {"CapInh": 0, "CapPrm": kill, "CapEff": kill, "CapAmb": 0}
    assert dispatcher.status("NoNewPrivs") == "1"
    users = grp.getgrnam("users").gr_gid
    php = s.all_workers() + s.templates() + s.processes("tqfpm: spawner www")
    assert len(php) == 4
    for process in php:
        assert process.uids == [WWW.pw_uid] * 4, process
        assert process.gids == [users] * 4, process
        assert set(process.capabilities.values()) == {0}, process


def test_supplementary_groups_of_the_pools_user(server):
    subprocess.run(["groupadd", "-f", "tqfpm-test"], check=True)
    subprocess.run(["useradd", "-M", "-N", "-g", "nogroup", "-G", "tqfpm-test", "tqfpm-test"], check=False)
    try:
        s = server(pools={"www": {"user": "tqfpm-test", "group": None}}).start()
        expected = {grp.getgrnam("tqfpm-test").gr_gid, grp.getgrnam("nogroup").gr_gid}
        assert set(s.all_workers()[0].groups) == expected
        code = "echo json_encode([posix_getuid(), posix_getgid(), posix_getgroups(), getenv('USER')]);"
        uid, gid, groups, user = json.loads(s.request(s.script("who.php", code)).text)
        assert (uid, gid) == (pwd.getpwnam("tqfpm-test").pw_uid, grp.getgrnam("nogroup").gr_gid)
        assert set(groups) == expected and user == "tqfpm-test"
    finally:
        for each in list(s.seen):
            if Process(each).alive:
                s.close()
                break
        subprocess.run(["userdel", "tqfpm-test"], check=False)
        subprocess.run(["groupdel", "tqfpm-test"], check=False)


def test_workers_inherit_nothing(server):
    """php-cgi gets its channel, standard streams and what it opens itself: no socket, log or scoreboard of ours."""
    s = server().start()
    worker = s.all_workers()[0]
    for fd, target in worker.fds.items():
        assert not target.startswith(("/memfd:", str(s.folder))) or target.startswith("/memfd:opcache"), (fd, target)  # OPcache's own
    # stdin (the template's dummy listener), stdout, stderr, the channel and a connection
    assert len([t for t in worker.fds.values() if t.startswith("socket:")]) <= 4, worker.fds
    code = "echo json_encode([getenv('LD_PRELOAD'), array_values(array_filter(array_keys(getenv()), fn($n) => str_starts_with($n, 'TQFPM')))]);"
    preload, ours = json.loads(s.request(s.script("env.php", code)).text)
    assert preload is False and [n for n in ours if n not in ("TQFPM_REQUEST_ID", "TQFPM_QUEUE_WAIT_US")] == []


def test_the_environment_of_workers(server):
    env = {**os.environ, "SECRET": "x"}
    code = "echo json_encode([getenv('SECRET'), getenv('MODE'), getenv('HOME'), getenv('FROM')]);"
    pools = {"clear": {"env[MODE]": "test", "env[FROM]": "$SECRET"}, "keep": {"clear_env": "no"}}
    s = server(pools=pools, env=env).start()
    script = s.script("env.php", code)
    assert json.loads(s.request(script, "clear").text) == [False, "test", WWW.pw_dir, "x"]
    assert json.loads(s.request(script, "keep").text)[0] == "x"


def test_daemonize_reports_readiness(server):
    s = server(options=["-D"])
    code, output = s.run()
    assert (code, output) == (0, "")
    pid = int(s.pid_path.read_text())
    try:
        assert s.request(s.script("a.php", "echo 'up';")).text == "up"  # at once: ready means ready
        assert Process(pid).parent == 1 or "tqfpm" not in Process(Process(pid).parent).title
        assert os.getsid(pid) == pid
        assert set(Process(pid).fds[n] for n in (0, 1, 2)) == {"/dev/null"}
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "end of the daemon")
    assert not s.pid_path.exists()


def test_daemonize_reports_failure(server):
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    s = server(options=["-D"], pools={"www": {"listen": "127.0.0.1:%d" % taken.getsockname()[1]}})
    code, output = s.run()
    assert code == 78
    assert "Address already in use" in output
    assert not s.pid_path.exists()


def test_without_root(server, folder):
    os.chown(folder, WWW.pw_uid, WWW.pw_gid)
    s = server(user="www-data", pools={"www": {"user": None, "group": None, "listen": f"{folder}/www.sock"}}).start()
    assert s.request(s.script("a.php", "echo posix_getuid();")).text == str(WWW.pw_uid)
    assert {u for p in s.processes("tqfpm: ") for u in p.uids} == {WWW.pw_uid}


def test_through_a_symbolic_link_in_a_folder_nobody_else_may_enter(server, folder):
    """An uninstalled tqfpm finds its library beside the real file, and workers need no access to that folder."""
    private = folder / "private dir:x"
    private.mkdir(mode=0o700)
    for name in ("tqfpm", "libtqfpm-template.so"):
        shutil.copy(os.path.join(os.path.dirname(TQFPM), name), private / name)
    (folder / "link").symlink_to(private / "tqfpm")
    s = server(binary=str(folder / "link")).start()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert len(s.templates()) == 1


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_spawn_modes(server, spawn):
    s = server(pools={"www": {"php.spawn": spawn, "pm.max_children": 2}}).start()
    script = s.script("a.php", "echo getmypid();")
    assert int(s.request(script).text) in [w.pid for w in s.workers()] or spawn == "exec"
    assert len(s.templates()) == (1 if spawn == "fork" else 0)
    php = [p for p in (Process(pid) for pid in descendants(s.pid)) if p.alive and "php-cgi" in p.title]
    assert {tuple(p.uids) for p in php} == {(WWW.pw_uid,) * 4}
    served = {s.request(script).text for _ in range(20)}
    assert served <= {str(p.pid) for p in php}


def test_a_library_that_cannot_be_loaded_means_exec_mode(server, folder):
    shutil.copy(TQFPM, folder / "tqfpm")  # alone
    s = server(binary=str(folder / "tqfpm")).start()
    if "libtqfpm-template.so is not there: falling back to php.spawn = exec" not in s.log:
        assert s.templates(), s.log  # an installed library was found
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_chroot(server, folder):
    s = server(pools={"www": {"chroot": str(folder / "www"), "chdir": "/"}}).start()
    s.script("jail.php", "echo json_encode([getcwd(), scandir('/'), file_exists('/etc/passwd')]);")
    cwd, entries, outside = json.loads(s.request("/jail.php").text)
    assert cwd == "/" and "jail.php" in entries and outside is False
    assert {v for w in s.all_workers() for v in w.capabilities.values()} == {0}


def test_limits_and_priority(server):
    s = server(pools={"www": {"rlimit_files": 777, "rlimit_core": 0, "process.priority": 7, "chdir": "/var"}}).start()
    code = "echo json_encode([posix_getrlimit(), pcntl_getpriority()]);"
    for worker in s.all_workers():
        limits = worker.read("limits")
        assert "Max open files            777                  777" in limits
        assert "Max core file size        0                    0" in limits
        assert worker.read("stat").rpartition(")")[2].split()[16] == "7"
        assert os.readlink(f"/proc/{worker.pid}/cwd") == "/var"


def test_systemds_socket_and_words(server, folder):
    """LISTEN_FDS gives the pool its socket; READY=1 comes when requests are served, STOPPING=1 at the end."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(folder / "notify"))
    notify.settimeout(20)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "given.sock"))
    listener.listen()
    s = server(pools={"www": {"listen": folder / "given.sock"}})
    # A shell gives the descriptor its number and LISTEN_PID its value, as systemd does.
    shell = f'exec 3<&{listener.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ NOTIFY_SOCKET={folder}/notify exec ' + " ".join(s.command())
    s.process = subprocess.Popen(["bash", "-c", shell], pass_fds=[listener.fileno()])
    listener.close()
    words = lambda: notify.recv(4096).decode()
    assert "READY=1" in words()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    s.signal(signal.SIGUSR2)
    seen = [words()]
    while "READY=1" not in seen[-1]:
        seen.append(words())
    assert "RELOADING=1" in "".join(seen)
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    s.signal(signal.SIGQUIT)
    while "STOPPING=1" not in seen[-1]:
        seen.append(words())
    assert s.wait() == 0
    assert (folder / "given.sock").exists()  # it is systemd's


def test_unix_socket_owner_mode_and_stale_file(server, folder):
    path = folder / "www.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # the file stays
    s = server(pools={"www": {"listen": path, "listen.owner": "www-data", "listen.group": "users", "listen.mode": "0640"}})
    s.start()
    info = path.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (WWW.pw_uid, grp.getgrnam("users").gr_gid, 0o640)
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    s.signal(signal.SIGTERM)
    s.wait()
    assert not path.exists()


def test_unix_socket_acl(server, folder):
    path = folder / "www.sock"
    s = server(pools={"www": {"listen": path, "listen.acl_users": "www-data,nobody", "listen.acl_groups": "users"}}).start()
    acl = subprocess.run(["getfacl", "-cp", path], capture_output=True, text=True, check=True).stdout
    assert "user:www-data:rw-" in acl and "user:nobody:rw-" in acl and "group:users:rw-" in acl


@pytest.mark.parametrize("listen, connect", [("127.0.0.1:{}", None), ("{}", "127.0.0.1:{}"), ("[::1]:{}", None), ("*:{}", "127.0.0.1:{}")])
def test_tcp_addresses(server, listen, connect):
    port = free_port()
    s = server(pools={"www": {"listen": listen.format(port)}}).start()
    s.pools["www"]["listen"] = (connect or listen).format(port)
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_a_second_instance_is_refused_and_the_first_unharmed(server, folder):
    path = folder / "www.sock"
    s = server(pools={"www": {"listen": path}}).start()
    code, output = s.run()
    assert code == 78
    assert f"pid file '{s.pid_path}' belongs to a running tqfpm, pid {s.pid}" in output
    other = server(pools={"www": {"listen": path}})
    code, output = other.run()
    assert code == 78
    assert str(path) in output and f"pid {s.pid}" in output, output  # what is held, and by whom
    assert not other.pid_path.exists()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert s.pid_path.read_text().strip() == str(s.pid)


def test_versions_of_the_command_line(server):
    s = server()
    code, output = s.run("-v")
    assert code == 0 and output.startswith(f"PHP {php.FULL_VERSION}") and "(fpm-fcgi; tqfpm" in output
    code, output = s.run("-h")
    assert code == 0 and "--fpm-config" in output
    code, output = s.run("--no-such-option")
    assert code == 64
    code, output = s.run("-i")
    assert code == 0 and "phpinfo()" in output
    assert (ROOT / "ChangeLog").read_text().split()[1] in s.run("-v")[1]
