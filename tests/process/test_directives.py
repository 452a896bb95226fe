"""Directives of php-fpm's that need the system: folders, AppArmor, ones without effect."""
import os
import re
from pathlib import Path

import pytest

from server import wait_for

WHERE = "echo getcwd(), ' ', __FILE__, ' ', file_exists('/inside') ? 'jail' : 'free';"


def jail(folder):
    root = folder / "jails" / "www"
    (root / "data").mkdir(parents=True)
    (root / "inside").write_text("")
    (root / "where.php").write_text("<?php " + WHERE)
    return root


@pytest.mark.parametrize("chroot, chdir, cwd", [
    ("{f}/jails/$pool", None, "/"), ("{f}/jails/www", "/data", "/data"), ("$prefix/jails/$pool", "/data", "/data"),
    ("jails/$pool", "/data/", "/data"),
])
def test_chroot_and_chdir(server, folder, chroot, chdir, cwd):
    root = jail(folder)
    s = server(pools={"www": {"prefix": folder, "chroot": chroot.format(f=folder), "chdir": chdir, "pm.max_children": 1}}).start()
    assert s.request("/where.php", extra={"SCRIPT_NAME": "/where.php"}).text == "/ /where.php jail"  # the script's folder
    worker, = s.workers()
    assert os.readlink(f"/proc/{worker.pid}/root") == str(root)
    assert not int(worker.status("CapEff"), 16) and not int(worker.status("CapAmb"), 16)
    # php-cgi goes to the script's folder for each request, and comes back.
    wait_for(lambda: os.readlink(f"/proc/{worker.pid}/cwd") == str(root) + (cwd if cwd != "/" else ""), "the working directory")


@pytest.mark.parametrize("spawn", ["fork", "exec"])
@pytest.mark.parametrize("chdir", ["{f}/work/$pool", "$prefix/work/www", "work/$pool"])
def test_chdir_alone(server, folder, spawn, chdir):
    work = folder / "work" / "www"
    work.mkdir(parents=True)
    s = server(pools={"www": {"prefix": folder, "chdir": chdir.format(f=folder), "php.spawn": spawn, "pm.max_children": 1}}).start()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    worker, = [p for p in s.processes("php-cgi") if "template" not in p.title]
    wait_for(lambda: os.readlink(f"/proc/{worker.pid}/cwd") == str(work), "the working directory")


def test_prefix_and_pool_in_every_path(server, folder):
    for name in ("run", "log"):
        (folder / name).mkdir()
    s = server(pools={"www": {"prefix": f"{folder}", "listen": "run/$pool.sock", "access.log": "log/$pool.access", "slowlog": "$prefix/log/$pool.slow",
                              "request_slowlog_timeout": "5s", "env[FOLDER]": "$prefix/$pool", "php_admin_value[error_log]": "$prefix/log/$pool.php",
                              "listen.owner": "www-data"}})
    s.start()
    s.pools["www"]["listen"] = str(folder / "run/www.sock")
    script = s.script("a.php", "echo getenv('FOLDER'), ' ', ini_get('error_log');")
    assert s.request(script).text == f"{folder}/www {folder}/log/www.php"
    assert sorted(os.listdir(folder / "log")) == ["www.access", "www.slow"]


@pytest.mark.parametrize("settings, words", [
    ({"chroot": "/none/here"}, r"\[pool www\] the chroot path '/none/here' does not exist or is not a directory"),
    ({"chdir": "/none/here"}, r"\[pool www\] the chdir path '/none/here' does not exist or is not a directory"),
    ({"chroot": "/tmp", "chdir": "/none"}, r"\[pool www\] the chdir path '/none' within the chroot path '/tmp' does not exist or is not a directory"),
    ({"prefix": "/none/here"}, r"\[pool www\] the prefix '/none/here' does not exist or is not a directory"),
])
def test_folders_that_are_missing(server, settings, words):
    code, text = server(pools={"www": settings}).run("-t")
    assert code == 78 and re.search("ERROR: .*" + words, text), text


def test_directives_without_effect_are_named(server):
    s = server(pools={"www": {"listen.setfib": "1"}}, **{"events.mechanism": "epoll"})
    code, text = s.run("-t")
    assert code == 0 and len(re.findall("has no effect here", text)) == 2
    code, text = server(**{"events.mechanism": "kqueue"}).run("-t")
    assert code == 78 and "event mechanism 'kqueue' is not available on this system" in text


@pytest.mark.skipif(os.path.isdir("/proc/self/attr/apparmor"), reason="this kernel has AppArmor")
@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_a_hat_that_nobody_can_wear(server, spawn):
    """Without AppArmor no worker runs unconfined: the pool does not start, and one line says why."""
    s = server(pools={"www": {"apparmor_hat": "www", "php.spawn": spawn}})
    code, _ = s.run()
    assert code != 0 and len(re.findall(r"\[pool www\].*failed to query apparmor confinement", s.log)) == 1, s.log
    assert "ready to handle connections" not in s.log and not Path("/proc/self/attr/apparmor").exists()
