"""Functions of php-fpm that scripts call, on unmodified php-cgi."""
import json
import os
import signal
import time

import pytest

import foreign
from server import Process, wait_for

FINISH = """ob_start(); header('X-A: b'); http_response_code(201); echo 'hello'; $result = fastcgi_finish_request();
echo 'nobody sees this'; header('X-Late: 1'); while (!file_exists($_GET['wait'])) usleep(1000);
file_put_contents($_GET['wait'] . '.out', implode(',', array_map('intval', [$result, fastcgi_finish_request(), headers_sent(), connection_status(), getmypid()])));"""


@pytest.fixture(params=foreign.VERSIONS)
def php(request, folder):
    return foreign.settings(request.param, folder)


@pytest.mark.parametrize("version", [v for v in foreign.VERSIONS if v != "7.4"])  # it has no loader to be told
def test_getenv_without_a_name_has_all_that_php_fpm_gives(server, folder, version):
    code = """$all = getenv(); putenv('LATE=x');
    echo json_encode([$all['SCRIPT_NAME'], $all['OWN'], $all['POOL'], isset($all['argv']), getenv()['LATE'], isset($all['LATE']),
                      filter_input(INPUT_SERVER, 'OWN'), filter_input(INPUT_GET, 'q'), $_SERVER['OWN']]);"""
    s = server(pools={"www": {"pm.max_children": 1, "env[POOL]": "p", "php_value[variables_order]": "GPCS",
                              **foreign.settings(version, folder)}}).start()
    for own in "ab":  # of the request at hand, and not of the one before
        answer = s.request(s.script("env.php", code), query="q=1", extra={"OWN": own})
        assert answer.text == json.dumps(["/env.php", own, "p", False, "x", False, own, "1", own], separators=(",", ":")).replace("/", "\\/"), answer.text


def finish(server, folder, script, **how):
    """Calls the script; the answer is complete while it still runs."""
    flag = folder / "go"
    flag.unlink(missing_ok=True)
    answer = server.request(script, query=f"wait={flag}", **how)
    assert server.status()["active processes"] >= 1
    assert not (folder / "go.out").exists()
    return answer, flag


def test_fastcgi_finish_request(server, folder, php):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 2, **php}}).start()
    script = s.script("finish.php", FINISH)
    for _ in range(3):
        answer, flag = finish(s, folder, script)
        assert (answer.status, answer.text, answer.header("X-A"), answer.header("X-Late")) == (201, "hello", "b", None)
        assert answer.complete and answer.closed is not None
        assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"  # the other worker
        flag.touch()
        wait_for((folder / "go.out").exists, "the script's end")
        assert (folder / "go.out").read_text().startswith("1,0,1,0,")
        (folder / "go.out").unlink()
        wait_for(lambda: s.status()["idle processes"] == 2, "both are free again")


def test_a_worker_that_has_finished_early_is_busy(server, folder):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    _, flag = finish(s, folder, s.script("finish.php", FINISH))
    state, = s.status(full=True)["processes"]
    assert state["state"] == "Finishing"
    connection = s.connect()
    connection.start(s.script("a.php", "echo 'ok';"))
    wait_for(lambda: s.status()["listen queue"] == 1, "the next one waits")
    flag.touch()
    assert connection.finish().text == "ok"


def test_keep_alive_and_bodies(server, folder):
    """The web server's connection and the worker's both go on; a body that PHP reads late is there."""
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1, "php_value[enable_post_data_reading]": "0"}}).start()
    script = s.script("late.php", f"echo 'first'; fastcgi_finish_request(); file_put_contents('{folder}/body', file_get_contents('php://input'));")
    connection = s.connect()
    for size in (0, 10, 500000):
        answer = connection.request(script, method="POST", body=b"x" * size)
        assert answer.text == "first" and answer.complete
        assert connection.request(s.script("a.php", "echo 'ok';")).text == "ok"
        assert (folder / "body").read_bytes() == b"x" * size


def test_much_output_after_the_answer_is_dropped(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("much.php", "echo 'first'; fastcgi_finish_request(); for ($i = 0; $i < 2000; $i++) { echo str_repeat('x', 10000); flush(); }")
    connection = s.connect()
    for _ in range(3):
        assert connection.request(script).text == "first"
    assert connection.request(s.script("pid.php", "echo getmypid();")).text == str(s.workers()[0].pid)


def test_what_php_logs_after_the_answer_is_in_the_log(server, folder):
    folder.chmod(0o777)
    s = server(pools={"www": {"catch_workers_output": "yes", "php_flag[log_errors]": "on"}}).start()
    script = s.script("log.php", "echo 'first'; fastcgi_finish_request(); error_log('late words');")
    answer = s.request(script)
    assert answer.text == "first" and answer.stderr == b""
    s.wait_log(r"child \d+ said into stderr: \"late words\"")


def test_a_crash_after_the_answer_hurts_nobody(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("crash.php", "echo 'first'; fastcgi_finish_request(); usleep(10000); posix_kill(getmypid(), SIGSEGV); sleep(5);")
    for _ in range(3):
        answer = s.request(script)
        assert answer.text == "first" and answer.complete and answer.status == 200
    s.wait_log(r"child \d+ exited on signal 11", 3)


@pytest.mark.parametrize("track", ["yes", "no"])
def test_request_terminate_timeout_track_finished(server, folder, track):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1, "request_terminate_timeout": "1s", "request_terminate_grace": "200ms",
                              "request_terminate_timeout_track_finished": track}}).start()
    answer, flag = finish(s, folder, s.script("finish.php", FINISH))
    assert answer.text == "hello"
    if track == "yes":
        s.wait_log(r"child \d+, script '.*finish.php' .* execution timed out")
        assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    else:
        end = time.monotonic() + 2
        wait_for(lambda: time.monotonic() > end)  # nothing may happen in this time
        assert "timed out" not in s.log and s.status()["active processes"] == 1
        flag.touch()
        wait_for((folder / "go.out").exists, "its end")


def test_reload_and_stop_wait_for_what_runs_on(server, folder):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    _, flag = finish(s, folder, s.script("finish.php", FINISH))
    s.reload()
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    flag.touch()
    wait_for((folder / "go.out").exists, "the old generation lets it end")
    (folder / "go.out").unlink()
    _, flag = finish(s, folder, s.script("finish.php", FINISH))
    s.signal(signal.SIGQUIT)
    s.wait_log("Finishing")
    assert s.process.poll() is None
    flag.touch()
    assert s.wait() == 0
    assert (folder / "go.out").exists()
    s.process = None


def test_children_of_a_script_cannot_finish_its_request(server, folder):
    folder.chmod(0o777)
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("fork.php", f"""if (($pid = pcntl_fork()) == 0) {{
        file_put_contents('{folder}/child', json_encode(fastcgi_finish_request())); posix_kill(getmypid(), SIGKILL); }}
        pcntl_waitpid($pid, $status); echo file_get_contents('{folder}/child');""")
    assert s.request(script).text == "false"


def test_fpm_get_status(server, php):
    s = server(pools={"www": {"pm.max_children": 3, **php}}).start()
    s.all_workers()
    code = "$s = fpm_get_status(); $p = array_column($s['procs'], null, 'pid')[getmypid()]; unset($s['procs']);"
    code += "echo str_replace(['{', '}'], ['', ''], serialize([$s, array_map('gettype', $p), $p['request-uri'], $p['state']]));"
    text = s.request(s.script("status.php", code), query="a=b").text
    for words in ('"pool";s:3:"www"', '"process-manager";s:6:"static"', '"active-processes";i:1', '"idle-processes";i:2', '"total-processes";i:3',
                  '"listen-queue";i:0', '"last-request-cpu";s:6:"double"', '"script";s:6:"string"', 's:11:"/status.php"', 's:7:"Running"'):
        assert words in text, (words, text)
    keys = s.request(s.script("keys.php", "$s = fpm_get_status(); echo implode(' ', array_keys($s)), '|', implode(' ', array_keys($s['procs'][0]));")).text
    assert keys == ("pool process-manager start-time start-since accepted-conn listen-queue max-listen-queue listen-queue-len "
                    "idle-processes active-processes total-processes max-active-processes max-children-reached slow-requests procs|"
                    "pid state start-time start-since requests request-duration request-method request-uri query-string request-length "
                    "user script last-request-cpu last-request-memory")
    for _ in range(200):  # nothing grows, nothing is left open
        s.request(s.script("many.php", "for ($i = 0; $i < 20; $i++) fpm_get_status();"))
    assert max(len(w.fds) for w in s.workers()) < 15


def test_functions_that_are_there(server, php):
    s = server(pools={"www": php}).start()
    names = ["fastcgi_finish_request", "fpm_get_status", "litespeed_finish_request", "getallheaders", "apache_request_headers"]
    script = s.script("there.php", f"echo implode(',', array_map('intval', array_map('function_exists', {names!r}))), ' ', php_sapi_name();")
    assert s.request(script).text == "1,1,0,1,1 cgi-fcgi"
