"""Status, ping and access log: byte for byte as php-fpm's where it has the same, always answered, and what is tqfpm's own."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import fcgi
import php
from server import free_port, wait_for

FORMAT = ('"%R|%u|%m|%r|%Q|%q|%f|%s|%C|%{user}C|%{system}C|%d|%{micro}d|%{milliseconds}d|%M|%{mega}M|%n|%{Content-type}o|%{X-Foo}o|%l|%p|%P|'
          '%{HTTP_HOST}e|%{NONE}e|%{EMPTY}e|%t|%{%Y-%m}T|%%"')


@pytest.fixture
def php_fpm(folder):
    """php-fpm with the same pool."""
    if php.FPM is None:
        pytest.skip("there is no php-fpm to compare with")
    address = f"127.0.0.1:{free_port()}"
    (folder / "fpm.conf").write_text(f"""[global]
error_log = {folder}/fpm.log
[www]
user = www-data
group = www-data
listen = {address}
pm = static
pm.max_children = 1
pm.status_path = /status
ping.path = /ping
access.log = {folder}/fpm.access
access.format = {FORMAT}
""")
    process = subprocess.Popen([php.FPM, "-F", "-y", str(folder / "fpm.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_for(lambda: "ready to handle" in (folder / "fpm.log").read_text() if (folder / "fpm.log").exists() else False, "php-fpm")
    yield address
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def numbers_apart(text):
    return re.sub(r"\d+", "N", text)


def test_pages_are_php_fpms_byte_for_byte(server, php_fpm):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    ours = lambda uri, query="", **how: s.page(uri, query, **how)
    theirs = lambda uri, query="", **how: s.page(uri, query, address=php_fpm, **how)
    wait_for(lambda: s.status()["idle processes"] == 1)
    for query in ("", "html", "xml", "json", "openmetrics"):
        own, fpm = ours("/status", query), theirs("/status", query)
        assert own.head == fpm.head, query
        own, fpm = numbers_apart(own.text), numbers_apart(fpm.text)
        if query == "":
            assert own.startswith(fpm)
        elif query == "openmetrics":
            assert own.endswith(fpm)
        else:
            assert own == fpm
    own, fpm = ours("/ping"), theirs("/ping")
    assert own.stdout == fpm.stdout
    assert ours("/ping", method="HEAD").stdout == theirs("/ping", method="HEAD").stdout
    # With `full` php-fpm shows the worker that answers; the fields and their types are the same.
    own, fpm = (json.loads(page("/status", "json&full").body) for page in (ours, theirs))
    assert [(k, type(v)) for k, v in own.items()][:-1] == [(k, type(v)) for k, v in fpm.items()]
    assert [(k, type(v)) for k, v in own["processes"][0].items()] == [(k, type(v)) for k, v in fpm["processes"][0].items()]
    assert list(own)[-1] == "tqfpm"
    names = lambda text: re.findall(r"^([^:\n]+): ", text.split("****\n", 1)[1], re.M)
    assert names(ours("/status", "full").text) == names(theirs("/status", "full").text)


def test_access_log_lines_are_php_fpms(server, php_fpm, folder):
    s = server(pools={"www": {"pm.max_children": 1, "access.log": folder / "own.access", "access.format": FORMAT}}).start()
    script = s.script("a.php", "header('X-Foo: bar'); http_response_code(202); echo 'hi';")
    requests = [
        dict(script="/ping", extra={"SCRIPT_NAME": "/ping"}),
        dict(script=script, query="a=1&b=<>", extra={"HTTP_HOST": "h", "EMPTY": ""}),
        dict(script=script, method="POST", body=b"x=1", extra={"HTTP_AUTHORIZATION": "Basic Ym9iOnB3", "REMOTE_USER": "eve"}),
        dict(script=str(folder / "www" / "none.php")),
    ]
    for each in requests:
        for address in (s.address(), php_fpm):
            fcgi.request(address, **each)
    read = lambda name: numbers_apart((folder / name).read_text())
    wait_for(lambda: read("own.access").count("\n") == read("fpm.access").count("\n") == len(requests))
    # php-fpm knows no Content-type that is the default one, and no script where it answers by itself or there is none.
    own = read("own.access").replace("|text/html; charset=UTF-N|", "|-|").replace("|/ping|||/ping|", "|/ping|||-|")
    assert own.replace(numbers_apart(str(folder / "www/none.php")), "-") == read("fpm.access")


@pytest.mark.serial  # it compares times and CPU
def test_cpu_memory_and_own_placeholders(server, folder):
    log = folder / "access"
    s = server(pools={"www": {"pm.max_children": 1, "queue.max_length": 1, "access.log": log, "access.format":
                              '"%s %C %{user}C %d %{queue_wait:ms}x %{age}x %{ttfb}x %M %{id}x %p %P %{why}x"'}}).start()
    # 0.3 s of CPU, however long that takes here; then the first byte, then 0.3 s of sleep.
    burn = s.script("burn.php", """function cpu() { $r = getrusage(); return $r['ru_utime.tv_sec'] + $r['ru_utime.tv_usec'] / 1e6
        + $r['ru_stime.tv_sec'] + $r['ru_stime.tv_usec'] / 1e6; }
        $begin = cpu(); while (cpu() < $begin + 0.3) for ($i = 0; $i < 100000; $i++);
        echo 'x'; while (ob_get_level()) ob_end_flush(); flush(); usleep(300000); echo cpu() - $begin;""")
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(s.request, burn, extra={"REQUEST_ID": f"r{i}"}) for i in range(2)]
        wait_for(lambda: s.status()["listen queue"] == 1)
        assert s.request(burn, extra={"REQUEST_ID": "r2"}).status == 503
    burnt = {f"r{i}": float(answer.result().text[1:]) for i, answer in enumerate(answers)}
    wait_for(lambda: log.read_text().count("\n") == 3)
    rows = {line.split()[8]: line.split(maxsplit=11) for line in log.read_text().splitlines()}
    dispatcher, = s.dispatchers()
    worker, = s.workers()
    for name in ("r0", "r1"):
        status, cpu, user, seconds, wait, age, first, memory, _, pid, parent, why = rows[name]
        assert status == "200" and why == "-" and int(pid) == worker.pid and int(parent) == dispatcher.pid
        used = float(cpu) / 100 * float(seconds)
        assert 0.95 * burnt[name] - 0.02 < used < 1.2 * burnt[name] + 0.05, (used, burnt[name])  # as the script counts it, and a little more
        assert float(cpu) / 2 < float(user) <= float(cpu) + 0.1
        assert 0.3 <= float(first) <= float(seconds) - 0.29 and float(age) >= float(seconds)
        assert int(memory) > 4 << 20
    first, last = sorted(("r0", "r1"), key=lambda name: float(rows[name][4]))
    assert float(rows[last][4]) > max(500, 2 * float(rows[first][4]))  # it waited for the whole of the first one
    assert rows["r2"][0] == "503" and rows["r2"][11] == "queue full" and rows["r2"][5:7] == ["-", "-"] and int(rows["r2"][9]) == dispatcher.pid
    shown = s.status(full=True)["processes"][0]
    assert abs(shown["last request cpu"] - float(rows[last][1])) < 0.1 and shown["last request memory"] > 4 << 20


def test_access_log_as_json(server, folder):
    log = folder / "access"
    s = server(pools={"www": {"access.log": log, "access.format": "json"}}).start()
    s.request(s.script("a.php", "echo 1;"), query="q=1", extra={"REQUEST_ID": "me"})
    s.page("/evil\n\"x\"")
    wait_for(lambda: log.read_text().count("\n") == 2)
    first, second = map(json.loads, log.read_text().splitlines())
    assert first["id"] == "me" and first["status"] == 200 and first["uri"] == "/a.php" and first["query"] == "q=1" and first["pool"] == "www"
    assert first["duration"] > 0 and first["ttfb"] > 0 and first["queue_wait"] >= 0 and first["cpu"] >= 0 and first["client"] == "127.0.0.1"
    assert second["uri"] == "/evil\n\"x\"" and second["status"] == 404


def test_status_and_ping_when_all_is_busy_and_the_queue_full(server):
    s = server(pools={"www": {"pm.max_children": 2, "queue.max_length": 3}}).start()
    wait_for(lambda: s.status()["idle processes"] == 2)
    sleep = s.script("sleep.php", "sleep(100);")
    connections = [s.connect() for _ in range(6)]
    for each in connections:
        each.start(sleep)
    wait_for(lambda: s.status()["listen queue"] == 3)
    with s.connect() as connection:
        for _ in range(20):
            answer = connection.request("/status", query="json&full", extra={"SCRIPT_NAME": "/status"})
            state = json.loads(answer.body)
            assert (state["active processes"], state["idle processes"], state["total processes"]) == (2, 0, 2)
            assert {p["state"] for p in state["processes"]} == {"Running"} and state["tqfpm"]["queue full"] == 1
        assert connection.request("/ping", extra={"SCRIPT_NAME": "/ping"}).text == "pong"
    for each in connections:
        each.close()


def test_the_page_counts_itself_as_in_php_fpm(server):
    s = server(pools={"www": {"pm": "ondemand", "pm.max_children": 2}}).start()
    def count():
        state = json.loads(s.page("/status", "json").body)
        return [state[f"{k} processes"] for k in ("idle", "active", "total")]
    assert count() == [0, 1, 1]  # as if a worker had been started for it
    s.request(s.script("a.php", "echo 1;"))
    wait_for(lambda: s.status()["idle processes"] == 1)
    assert count() == [0, 1, 1]
    state = s.status()
    assert (state["idle processes"], state["active processes"], state["accepted conn"]) == (1, 0, 3)


def test_status_listen_answers_status_and_ping_alone(server, folder):
    path = folder / "status.sock"
    log = folder / "access"
    s = server(pools={"www": {"pm.status_listen": path, "access.log": log}}).start()
    script = s.script("a.php", "echo 'ok';")
    assert s.page("/ping", address=path).text == "pong"
    assert s.page("/status", address=path).text.startswith("pool:                 www\n")
    for uri, target in (("/a.php", script), ("/x", "/x")):
        refused = fcgi.request(path, target, extra={"SCRIPT_NAME": uri})
        assert (refused.status, refused.complete) == (404, True) and "ok" not in refused.text
    kept = fcgi.Connection(path)
    kept.request("/status", extra={"SCRIPT_NAME": "/status"})
    assert log.read_text() == ""
    inode = path.stat().st_ino
    s.reload()
    assert kept.at_end()  # it is the generation's before, and not handed over
    assert path.stat().st_ino == inode and s.page("/ping", address=path).text == "pong"
    wait_for(lambda: s.status()["accepted conn"] == 0)
    wait_for(lambda: json.loads(s.page("/status", "json&full", address=path).body)["tqfpm"]["generation"] == 2)
    s.signal(signal.SIGQUIT)
    assert s.wait() == 0 and not path.exists()


def test_status_listen_in_use_is_said(server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        s = server(options=["-F", "-O"], pools={"www": {"pm.status_listen": address}})
        code, output = s.run()
    assert code == 78
    assert f"unable to bind listening socket for address '{address}': Address already in use (98)\n" in output
    assert "[pool www] stop what listens there or change pm.status_listen" in output
    same = server(pools={"www": {"listen": address, "pm.status_listen": address}})
    code, output = same.run("-t")
    assert code == 78 and "unable to set listen address as it's already used in another pool 'www'" in output


def test_counts_always_sum_under_churn(server):
    s = server(pools={"www": {"pm": "dynamic", "pm.max_children": 4, "pm.start_servers": 1, "pm.min_spare_servers": 1,
                              "pm.max_spare_servers": 2, "pm.max_requests": 3}}).start()
    script = s.script("a.php", "usleep(random_int(0, 3000)); echo 1;")
    stop = threading.Event()

    def load():
        while not stop.is_set():
            s.request(script)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        for _ in range(200):
            for state in (s.status(), json.loads(s.page("/status", "json").body)):
                assert state["idle processes"] + state["active processes"] == state["total processes"] <= 4
                assert state["max active processes"] <= 4
    finally:
        stop.set()
        for each in threads:
            each.join()
