"""php_value, php_admin_value and what scripts can do about them."""
import os
import re
import signal
import threading

import pytest

import php
from server import Process, wait_for

INI = """$before = ini_get($_GET['key']); $set = ini_set($_GET['key'], $_GET['to']); echo $before, '|',
$set === false ? 'locked' : 'set', '|', ini_get($_GET['key']);"""


def ask(server, script, key, to, pool="www"):
    return server.request(script, pool, query=f"key={key}&to={to}").text.split("|")


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_admin_values_cannot_be_changed_by_scripts(server, spawn):
    s = server(pools={"www": {
        "php.spawn": spawn, "php_admin_value[memory_limit]": "96M", "php_admin_flag[log_errors]": "off",
        "php_admin_value[open_basedir]": "/tmp:/srv", "php_admin_value[error_reporting]": "E_ALL & ~E_NOTICE",
        "php_admin_value[disable_functions]": "exec,system", "php_value[precision]": "9", "php_flag[display_errors]": "on"}}).start()
    script = s.script("ini.php", INI)
    assert ask(s, script, "memory_limit", "1G") == ["96M", "locked", "96M"]
    assert ask(s, script, "log_errors", "1")[1] == "locked"
    assert ask(s, script, "open_basedir", "/") == ["/tmp:/srv", "locked", "/tmp:/srv"]
    assert ask(s, script, "error_reporting", "0") == [str(php.E_ALL & ~8), "locked", str(php.E_ALL & ~8)]
    assert ask(s, script, "precision", "11") == ["9", "set", "11"]
    assert ask(s, script, "precision", "11") == ["9", "set", "11"]  # and only for that request
    off = s.script("off.php", "var_dump(function_exists('exec'));")
    assert "false" in s.request(off).text


VALUES = {
    "user_agent": "it's \"${HOME}\" \\x $y; z # 100%",
    "sendmail_path": "/usr/sbin/sendmail -t -i -f 'a@b'",
    "date.timezone": "Europe/Berlin",
    "arg_separator.output": "&amp;",
    "auto_detect_line_endings": "",
}


@pytest.mark.parametrize("kind", ["php_value", "php_admin_value"])
def test_values_reach_php_as_they_are(server, kind):
    def written(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'

    s = server(pools={"www": {f"{kind}[{key}]": written(value) for key, value in VALUES.items()}}).start()
    script = s.script("ini.php", "echo json_encode(ini_get($_GET['key']));")
    for key, value in VALUES.items():
        assert s.request(script, query=f"key={key}").text == '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("/", "\\/") + '"'


@pytest.mark.parametrize("php", ["on", "1", "yes", "true"])
def test_flags(server, php):
    s = server(pools={"www": {"php_admin_flag[short_open_tag]": php, "php_flag[html_errors]": "off"}}).start()
    script = s.script("ini.php", "echo (int)ini_get('short_open_tag'), (int)ini_get('html_errors');")
    assert s.request(script).text == "10"


def test_user_ini_works_and_cannot_change_admin_values(server):
    s = server(pools={"www": {"php_admin_value[memory_limit]": "96M", "php_value[precision]": "9"}}).start()
    script = s.script("ini.php", "echo ini_get('memory_limit'), ' ', ini_get('precision'), ' ', ini_get('user_agent');")
    (s.www / ".user.ini").write_text("memory_limit = 512M\nprecision = 5\nuser_agent = me\n")
    assert s.request(script, extra={"DOCUMENT_ROOT": str(s.www)}).text == "96M 5 me"


def test_admin_values_hold_wherever_the_script_is(server, folder):
    """In the root folder of a chroot, in a folder that is newer than the workers, by an odd or a relative path."""
    jail = folder / "jail"
    (jail / "old").mkdir(parents=True)
    s = server(pools={"www": {"chroot": str(jail), "chdir": "/old", "php_admin_value[memory_limit]": "96M"}}).start()
    (jail / "new").mkdir()
    for place in ("old", "new", "."):
        (jail / place / "ini.php").write_text("<?php " + INI)
    for path in ("/old/ini.php", "/new/ini.php", "/ini.php", "//old/ini.php", "ini.php",
                 "./ini.php"):
        assert ask(s, path, "memory_limit", "1G") == ["96M", "locked", "96M"], path


# --- settings that web servers send --------------------------------------------------------------------------------

SHOW = "echo ini_get('memory_limit'), ' ', getmypid();"


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_web_values_are_in_force_for_their_request_only(server, spawn):
    s = server(pools={"www": {"pm.max_children": 4, "php.spawn": spawn, "php_admin_value[precision]": "7"}}).start()
    ini = s.script("ini.php", INI)

    def with_values(key, to, **extra):
        return s.request(ini, query=f"key={key}&to={to}", extra=extra).text.split("|")

    for _ in range(3):
        assert with_values("memory_limit", "1G", PHP_VALUE="memory_limit=64M\nuser_agent=x") == ["64M", "set", "1G"]
        assert with_values("memory_limit", "1G", PHP_ADMIN_VALUE="memory_limit=65M") == ["65M", "locked", "65M"]
        assert with_values("memory_limit", "1G") == ["128M", "set", "1G"]
    # PERDIR and SYSTEM settings, which no script could set for itself:
    assert with_values("post_max_size", "1", PHP_VALUE="post_max_size=3M")[0] == "3M"
    assert with_values("open_basedir", "/", PHP_ADMIN_VALUE=f"open_basedir={s.www}:/tmp")[:2] == [f"{s.www}:/tmp", "locked"]
    assert with_values("short_open_tag", "0", PHP_FLAG="short_open_tag=on")[0] == "1"
    assert with_values("log_errors", "0", PHP_ADMIN_FLAG="log_errors=on") == ["1", "locked", "1"]
    # The pool's admin value is not a user's to change.
    assert with_values("precision", "3", PHP_VALUE="precision=9")[0] == "7"
    assert with_values("precision", "3", PHP_ADMIN_VALUE="precision=9") == ["9", "locked", "9"]
    closed = s.script("out.php", "echo @file_get_contents('/etc/hostname') === false ? 'closed' : 'open';")
    assert s.request(closed, extra={"PHP_ADMIN_VALUE": f"open_basedir={s.www}"}).text == "closed"
    assert s.request(closed).text == "open"


def test_workers_of_one_set_of_values_serve_many_requests(server):
    s = server(pools={"www": {"pm": "dynamic", "pm.max_children": 6, "pm.start_servers": 1, "pm.min_spare_servers": 1,
                              "pm.max_spare_servers": 6}}).start()
    script = s.script("show.php", SHOW)
    pids = {s.request(script, extra={"PHP_VALUE": "memory_limit=64M"}).text for _ in range(20)}
    assert len(pids) <= 2 and all(pid.startswith("64M ") for pid in pids)  # the first one's, and perhaps its spare


def test_no_set_of_values_starves_behind_another(server):
    """One worker, three sets of values under load at the same time: each request is served by the right one."""
    s = server(pools={"www": {"pm.max_children": 1, "queue.max_wait": "20s"}}).start()
    script = s.script("show.php", SHOW)

    def client(number):
        extra = {} if number % 3 == 0 else {"PHP_VALUE": f"memory_limit={60 + number % 3}M"}
        expected = "128M" if number % 3 == 0 else f"{60 + number % 3}M"
        return [s.request(script, extra=extra).text.split()[0] == expected for _ in range(15)]

    results = [None] * 6

    def run(i):
        results[i] = client(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(results) and all(map(all, results))


def test_the_number_of_templates_is_bounded(server):
    s = server(pools={"www": {"pm": "ondemand", "pm.max_children": 4, "php.max_variants": 2}}).start()
    script = s.script("show.php", SHOW)
    for i in range(8):
        assert s.request(script, extra={"PHP_VALUE": f"memory_limit={50 + i % 5}M"}).text.startswith(f"{50 + i % 5}M ")
        wait_for(lambda: len(s.processes("php-cgi: template www")) <= 3, "the pool's own and two more")
    assert s.request(script).text.startswith("128M ")


@pytest.mark.parametrize("policy, value, admin", [("all", 200, 200), ("user", 200, 403), ("refuse", 403, 403)])
def test_security_web_php_values(server, policy, value, admin):
    s = server(pools={"www": {"security.web_php_values": policy}}).start()
    script = s.script("show.php", SHOW)
    assert s.request(script).status == 200
    assert s.request(script, extra={"PHP_VALUE": "memory_limit=64M"}).status == value
    assert s.request(script, extra={"PHP_ADMIN_VALUE": "memory_limit=64M"}).status == admin
    said = len(re.findall(r"WARNING: .*refused: its web server sends PHP settings, and security.web_php_values is", s.log))
    assert said == (value == 403) + (admin == 403)


def test_a_mistake_in_web_values_is_said_and_the_rest_is_used(server):
    s = server().start()
    script = s.script("show.php", SHOW)
    assert s.request(script, extra={"PHP_VALUE": "nonsense\nmemory_limit=64M"}).text.startswith("64M ")
    assert "'nonsense' is no directive" in s.log


def test_a_killed_template_of_web_values_costs_no_request(server):
    s = server(pools={"www": {"pm.max_children": 3, "pm": "ondemand"}}).start()
    script = s.script("show.php", SHOW)
    own = {t.pid for t in s.templates()}
    for i in range(3):
        assert s.request(script, extra={"PHP_VALUE": "memory_limit=64M"}).text.startswith("64M ")
        other = [t.pid for t in s.processes("php-cgi: template www") if t.pid not in own]
        for pid in other:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(Process(pid).alive for pid in other), "its end")
        workers = s.workers()
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: s.status()["total processes"] == 0, "no worker is left")


def test_reloads_with_web_values_lose_nothing(server):
    s = server(pools={"www": {"pm.max_children": 2}}).start()
    script = s.script("show.php", SHOW)
    stop, failed = threading.Event(), []

    def client(number):
        while not stop.is_set():
            answer = s.request(script, extra={"PHP_VALUE": f"memory_limit={60 + number}M"})
            if not answer.text.startswith(f"{60 + number}M "):
                failed.append(answer)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(3)]
    for each in threads:
        each.start()
    for _ in range(4):
        s.reload()
    stop.set()
    for each in threads:
        each.join()
    assert failed == []
