"""The process managers with real workers, what workers share, and what is left of them."""
import re

import pytest

from server import Process, descendants, in_parallel, wait_for

SLEEP = "usleep((int)($_GET['ms'] ?? 0) * 1000); echo getmypid();"


def test_static_keeps_its_number(server):
    s = server(pools={"www": {"pm": "static", "pm.max_children": 4}}).start()
    wait_for(lambda: len(s.workers()) == 4)
    script = s.script("sleep.php", SLEEP)
    pids = in_parallel(8, lambda i: s.request(script, query="ms=100").text)
    assert len(set(pids)) == 4
    assert {int(p) for p in pids} == {w.pid for w in s.workers()}


def test_dynamic_grows_with_the_load_and_shrinks_again(server):
    s = server(pools={"www": {"pm": "dynamic", "pm.max_children": 6, "pm.start_servers": 2, "pm.min_spare_servers": 1,
                              "pm.max_spare_servers": 2}}).start()
    wait_for(lambda: len(s.workers()) == 2)
    script = s.script("sleep.php", SLEEP)
    pids = in_parallel(6, lambda i: s.request(script, query="ms=300").text)
    assert len(set(pids)) == 6  # each had a worker of its own: none waited for another's end
    wait_for(lambda: len(s.workers()) == 2, "back to max_spare_servers")
    assert s.status()["max active processes"] == 6


def test_ondemand_starts_with_the_first_request_and_ends_with_idleness(server):
    s = server(pools={"www": {"pm": "ondemand", "pm.max_children": 3, "pm.process_idle_timeout": "1s"}}).start()
    assert s.workers() == []
    assert s.page("/ping").text == "pong" and s.workers() == []
    script = s.script("sleep.php", SLEEP)
    assert len(set(in_parallel(3, lambda i: s.request(script, query="ms=200").text))) == 3
    wait_for(lambda: s.workers() == [], "idle workers end")
    assert s.request(script).text


def test_max_children_is_a_bound_and_said(server):
    s = server(pools={"www": {"pm": "ondemand", "pm.max_children": 2}}).start()
    script = s.script("sleep.php", SLEEP)
    pids = in_parallel(8, lambda i: s.request(script, query="ms=50").text)
    assert all(pids) and len(set(pids)) == 2
    assert "server reached pm.max_children setting (2), consider raising it" in s.log
    assert s.status()["max children reached"] == 1


def test_opcache_and_apcu_belong_to_the_pool(server):
    """A counter in APCu and OPcache's hits: seen by all workers of a pool, by none of another."""
    code = ("$s = opcache_get_status(false); echo json_encode([getmypid(), apcu_inc('n'), "
            "$s['opcache_statistics']['misses'], $s['opcache_statistics']['num_cached_scripts']]);")
    pool = {"pm.max_children": 4, "php_admin_value[opcache.enable]": 1, "php_admin_value[apc.enabled]": 1}
    s = server(pools={"a": pool, "b": pool}).start()
    wait_for(lambda: len(s.workers("a")) == 4 and len(s.workers("b")) == 4)
    script = s.script("count.php", "usleep(20000);" + code)

    def all_of(pool_name, count):
        return [eval(t) for t in in_parallel(count, lambda i: s.request(script, pool_name).text)]

    assert s.request(script, "a").complete
    a = all_of("a", 40)
    assert len({row[0] for row in a}) == 4
    assert sorted(row[1] for row in a) == list(range(2, 42))  # one counter, no increment lost
    assert max(row[2] for row in a) == 1  # compiled once for all of them
    b = all_of("b", 8)
    assert sorted(row[1] for row in b) == list(range(1, 9))  # a counter of its own


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_64_keepalive_connections_over_4_workers(server, spawn):
    s = server(pools={"www": {"pm.max_children": 4, "php.spawn": spawn}}).start()
    script = s.script("sleep.php", SLEEP)
    connections = [s.connect() for _ in range(64)]
    pids = set()
    for _ in range(5):
        for each in connections:
            each.start(script, keep=True)
        for each in connections:
            response = each.finish()
            assert response.complete and not response.closed
            pids.add(response.text)
    assert len(pids) <= 4
    assert s.status()["active processes"] == 0
    for each in connections:
        each.close()
    wait_for(lambda: len(Process(s.dispatchers()[0].pid).fds) < 64, "connections closed")


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_500_recycled_workers_leave_nothing(server, spawn):
    """max_requests = 1: each request ends its worker. No descriptor, zombie or process may be left."""
    count = 500 if spawn == "fork" else 60
    s = server(pools={"www": {"pm.max_children": 2, "pm.max_requests": 1, "php.spawn": spawn}}, log_level="notice").start()
    script = s.script("pid.php", "echo getmypid();")

    def settled():
        php = [p for p in map(Process, descendants(s.pid)) if "php-cgi" in p.title]
        return len(php) == (3 if spawn == "fork" else 2) and s.status()["idle processes"] == 2 and not s.zombies()

    wait_for(settled)
    dispatcher, = s.dispatchers()
    before = len(dispatcher.fds)
    template = [len(t.fds) for t in s.templates()]
    pids = [s.request(script).text for _ in range(count)]
    assert len(set(pids)) == count and all(pids)
    wait_for(settled)
    wait_for(lambda: len(dispatcher.fds) <= before, "no descriptor left")  # the last connection closes a moment after its answer
    assert [len(t.fds) for t in s.templates()] == template
    assert s.dispatchers()[0].pid == dispatcher.pid


def test_the_queue_is_bounded_and_says_so(server):
    s = server(pools={"www": {"pm.max_children": 1, "queue.max_length": 2, "queue.max_wait": "300ms"}}).start()
    script = s.script("sleep.php", SLEEP)
    answers = in_parallel(6, lambda i: s.request(script, query="ms=1000"))
    codes = sorted(a.status for a in answers)
    assert codes == [200, 503, 503, 503, 503, 503]
    refused = [a for a in answers if a.status == 503]
    assert all(a.complete and int(a.header("Retry-After")) >= 1 for a in refused)
    assert {200, 503} == set(codes)


def test_two_php_settings_per_pool(server):
    pools = {"a": {"php_value[memory_limit]": "64M", "php_flag[display_errors]": "off"},
             "b": {"php_admin_value[memory_limit]": "96M", "env[WHO]": "b"}}
    s = server(pools=pools).start()
    script = s.script("ini.php", "echo ini_get('memory_limit'), '|', ini_get('display_errors'), '|', getenv('WHO');")
    assert s.request(script, "a").text == "64M|0|" or s.request(script, "a").text == "64M||"
    assert s.request(script, "b").text.startswith("96M|") and s.request(script, "b").text.endswith("|b")


def test_output_of_workers_is_in_the_log(server):
    s = server(pools={"www": {"catch_workers_output": "yes", "php_admin_value[log_errors]": "on"}}).start()
    script = s.script("out.php", "fwrite(fopen('php://stderr', 'w'), \"one\\ntwo\\n\"); echo 'x';")
    assert s.request(script).text == "x"
    s.wait_log(r'WARNING: .*\[pool www\] child \d+ said into stderr: "one"')
    s.wait_log(r'said into stderr: "two"')
    script = s.script("err.php", "error_log('to the web server'); echo 'y';")
    response = s.request(script)
    assert response.text == "y" and response.stderr == b"PHP message: to the web server"
    s.wait_log(r'said into stderr: "NOTICE: pid \d+, PHP message: to the web server"')
    code = "error_log('one'); function f() { throw new Exception('two'); } f();"
    response = s.request(s.script("trace.php", code))
    assert response.status == 500
    assert re.fullmatch(rb"PHP message: one; PHP message: PHP Fatal error:  Uncaught Exception: two in .*:1\nStack trace:\n#0 .*\n"
                        rb"#1 {main}\n  thrown in .* on line 1", response.stderr), response.stderr
    s.wait_log(r'said into stderr: "Stack trace:"')


def test_a_missing_script_is_said_as_by_php_fpm(server, folder):
    s = server().start()
    response = s.request(folder / "www" / "none.php")
    assert (response.status, response.text, response.stderr) == (404, "File not found.\n", b"Primary script unknown")
    response = s.request(s.script("own.php", "http_response_code(404); echo 'mine';"))
    assert (response.status, response.text, response.stderr) == (404, "mine", b"")


def test_error_header(server):
    s = server(pools={"www": {"php_admin_value[fastcgi.error_header]": "HTTP/1.1 503 Sorry", "php_flag[display_errors]": "off"}}).start()
    assert s.request(s.script("a.php", "undefined_function();")).head.startswith("Status: 503 Sorry\r\n")
    assert s.request(s.script("b.php", "echo 'ok';")).status == 200


def test_status_page(server):
    s = server(pools={"www": {"pm.max_children": 2}}).start()
    script = s.script("sleep.php", SLEEP)
    for _ in range(3):
        s.request(script)
    wait_for(lambda: s.status()["idle processes"] == 2)
    state = s.status(full=True)
    assert state["pool"] == "www" and state["process manager"] == "static"
    assert state["total processes"] == 2 == len(state["processes"])
    assert sum(p["requests"] for p in state["processes"]) == 3
    assert state["idle processes"] + state["active processes"] == state["total processes"]
    for query, kind, pattern in [("", "text/plain", r"^pool: +www$"), ("html", "text/html", "<table"),
                                 ("xml", "text/xml", "<pool>www</pool>"),
                                 ("openmetrics", "application/openmetrics-text", r"# EOF\s*$")]:
        page = s.page("/status", query)
        assert page.header("Content-Type").startswith(kind)
        assert re.search(pattern, page.text, re.M), page.text


def test_a_megabyte_in_one_line_and_ten_of_stderr(server):
    """log_limit is the length of a whole line; the log never holds up a request."""
    s = server(pools={"www": {"catch_workers_output": "yes", "pm.max_children": 1}}, log_limit=2000000, log_level="notice").start()
    write = "$f = fopen('php://stderr', 'w'); for ($i = 0; $i < {n}; $i++) fwrite($f, str_repeat('{c}', {size}) . \"{end}\"); echo 'done';"
    script = s.script("long.php", write.replace("{n}", "16").replace("{c}", "x").replace("{size}", "65536").replace("{end}", ""))
    assert s.request(script).text == "done"
    s.wait_log(r'said into stderr: "x{1048576}"\n')
    script = s.script("much.php", write.replace("{n}", "10240").replace("{c}", "y").replace("{size}", "1023").replace("{end}", "\\n"))
    assert s.request(script).text == "done"
    wait_for(lambda: s.log.count('"' + "y" * 1023 + '"\n') == 10240, "every line")


def test_long_lines_are_cut_at_log_limit(server):
    s = server(pools={"www": {"catch_workers_output": "yes"}}, log_limit=1024, log_level="notice").start()
    assert s.request(s.script("a.php", "file_put_contents('php://stderr', str_repeat('z', 3000) . \"\\n\"); echo 'x';")).text == "x"
    wait_for(lambda: s.log.count("z") == 3000)
    lines = [line for line in s.log.splitlines() if "zz" in line]
    assert {len(line) + 1 for line in lines[:-1]} == {1024} and len(lines[-1]) < 1024
