"""FastCGI towards the web server: every record type, several requests at a time, and input that is none."""
import os
import re
import struct

import pytest

import fcgi
from fcgi import KEEP_CONN, PARAMS, STDIN, begin, pairs, params_for, record, stream
from server import free_port, wait_for

ECHO = ("echo json_encode(['id' => $_GET['i'] ?? '', 'method' => $_SERVER['REQUEST_METHOD'], 'post' => "
        "md5(file_get_contents('php://input')), 'length' => $_SERVER['CONTENT_LENGTH'] ?? null, 'long' => strlen($_SERVER['LONG'] ?? '')]);")


@pytest.fixture
def echo(server):
    s = server().start()
    return s, s.script("echo.php", ECHO)


@pytest.mark.parametrize("number", [0, 1, 2, 255, 256, 65535])
def test_request_ids(echo, number):
    s, script = echo
    with s.connect() as c:
        answer = c.request(script, request_id=number, query="i=7")
        assert answer.complete and '"id":"7"' in answer.text
        assert {rid for _, rid, _ in answer.records} == {number}


def test_connection_is_kept_or_closed_as_asked(echo):
    s, script = echo
    with s.connect() as c:
        for _ in range(3):
            assert c.request(script, keep=True).complete
        assert c.request(script, keep=False).complete
        assert c.at_end()


def test_several_requests_at_a_time_on_one_connection(server):
    s = server(pools={"www": {"pm.max_children": 4}}).start()
    script = s.script("slow.php", "usleep((int)$_GET['ms'] * 1000); echo $_GET['ms'];")
    with s.connect() as c:
        for i, ms in enumerate([400, 10, 200], start=1):
            c.start(script, request_id=i, keep=True, query=f"ms={ms}")
        ends = {}
        out = {1: b"", 2: b"", 3: b""}
        while len(ends) < 3:
            kind, rid, content = c.read_record()
            if kind == fcgi.STDOUT:
                out[rid] += content
            elif kind == fcgi.END:
                ends[rid] = len(ends)
    assert [out[i].partition(b"\r\n\r\n")[2] for i in (1, 2, 3)] == [b"400", b"10", b"200"]
    assert ends == {2: 0, 3: 1, 1: 2}


def test_parameters_over_many_records_with_padding_byte_by_byte(echo):
    s, script = echo
    content = pairs(params_for(script, query="i=9", extra={"LONG": "x" * 40000}))
    wire = begin(1)
    for i in range(0, len(content), 997):
        wire += record(PARAMS, 1, content[i:i + 997], padding=i % 251)
    wire += record(PARAMS, 1) + record(STDIN, 1)
    with s.connect() as c:
        for i in range(0, 3000):  # the beginning in single bytes, then in pieces of odd size
            c.send(wire[i:i + 1])
        for i in range(3000, len(wire), 1111):
            c.send(wire[i:i + 1111])
        answer = c.finish()
    assert answer.complete and '"long":40000' in answer.text and '"id":"9"' in answer.text


def test_post_bodies(echo):
    s, script = echo
    import hashlib
    for size in (0, 1, 65535, 65536, 300000, 3000000):
        body = os.urandom(size)
        answer = s.request(script, method="POST", body=body)
        assert hashlib.md5(body).hexdigest() in answer.text, size


def test_get_values(echo):
    s, _ = echo
    with s.connect() as c:
        kind, rid, content = fcgi.get_values(c, ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "UNHEARD_OF"])
    assert (kind, rid) == (fcgi.GET_VALUES_RESULT, 0)
    assert b"FCGI_MAX_CONNS" in content and b"FCGI_MPXS_CONNS" in content and b"UNHEARD_OF" not in content


def test_unknown_management_record(echo):
    s, script = echo
    with s.connect() as c:
        c.send(record(77, 0, b"what"))
        assert c.read_record() == (fcgi.UNKNOWN, 0, bytes([77]) + bytes(7))
        assert c.request(script).complete


def test_unknown_role(echo):
    s, script = echo
    with s.connect() as c:
        c.send(begin(1, role=9, flags=KEEP_CONN) + stream(PARAMS, 1, pairs(params_for(script))) + record(STDIN, 1))
        answer = c.finish()
        assert answer.protocol_status == fcgi.UNKNOWN_ROLE
        assert c.request(script).complete


def test_abort_frees_the_worker(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    slow = s.script("slow.php", "for ($i = 0; $i < 3000; $i++) { echo str_repeat('x', 8192); flush(); usleep(10000); }")
    with s.connect() as c:
        c.start(slow, keep=True)
        assert c.read_record()[0] == fcgi.STDOUT
        c.send(record(fcgi.ABORT, 1))
        assert c.finish().complete
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"  # on the only worker


def test_a_client_that_goes_away_is_not_served(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    mark = s.folder / "marks"
    mark.mkdir()
    mark.chmod(0o777)
    script = s.script("mark.php", f"touch('{mark}/' . $_GET['n']); usleep(500000); echo 'x';")
    with s.connect() as running:
        running.start(script, query="n=1")
        wait_for(lambda: (mark / "1").exists())
        with s.connect() as queued:
            queued.start(script, query="n=2")
            wait_for(lambda: s.status()["listen queue"] == 1)
        wait_for(lambda: s.status()["listen queue"] == 0, "dropped from the queue")
        assert running.finish().complete
    assert s.request(script, query="n=3").complete
    assert sorted(p.name for p in mark.iterdir()) == ["1", "3"]


def test_a_client_that_goes_away_with_a_large_body_is_not_served(server, folder):
    s = server(pools={"www": {"pm.max_children": 1, "request_buffer_size": "64K", "listen": folder / "www.sock", "listen.mode": "0666"}}).start()
    mark = folder / "ran"
    script = s.script("mark.php", f"touch('{mark}'); echo 'x';")
    slow = s.script("slow.php", "usleep(600000); echo 'x';")
    with s.connect() as running:
        running.start(slow)
        wait_for(lambda: s.status()["active processes"] == 1)
        with s.connect() as large:
            large.socket.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is not read beyond the buffer
                large.start(script, method="POST", body=b"x" * 5000000)
            wait_for(lambda: s.status()["listen queue"] == 1)
        assert running.finish().complete
    wait_for(lambda: s.status()["listen queue"] == 0)
    assert s.request(slow).complete and not mark.exists()


def test_a_client_that_goes_away_in_mid_request_frees_its_worker(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    slow = s.script("slow.php", "for ($i = 0; $i < 3000; $i++) { echo str_repeat('x', 8192); flush(); usleep(10000); }")
    with s.connect() as c:
        c.start(slow)
        assert c.read_record()[0] == fcgi.STDOUT
    assert s.request(s.script("a.php", "echo 'ok';"), timeout=10).text == "ok"


def test_a_slow_sender_holds_no_worker(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("a.php", "echo strlen(file_get_contents('php://input'));")
    with s.connect() as c:
        c.send(begin(1) + stream(PARAMS, 1, pairs(params_for(script, "POST", b"x" * 10))) + record(STDIN, 1, b"x" * 5))
        assert s.request(script).text == "0"
        c.send(record(STDIN, 1, b"x" * 5) + record(STDIN, 1))
        assert c.finish().text == "10"


def test_a_slow_reader_holds_no_worker(server):
    s = server(pools={"www": {"pm.max_children": 1, "response_buffer_size": "4M"}}).start()
    big = s.script("big.php", "echo str_repeat('y', 2000000);")
    with s.connect() as c:
        c.start(big)
        assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
        assert c.finish().body == b"y" * 2000000


def test_more_body_than_content_length_is_not_taken_for_a_request(echo):
    """What exceeds CONTENT_LENGTH never reaches php-cgi, whose next request it would become."""
    s, script = echo
    smuggled = begin(1) + stream(PARAMS, 1, pairs(params_for(script, query="i=evil")))
    params = params_for(script, "POST", b"x" * 3)
    with s.connect() as c:
        c.send(begin(1, flags=KEEP_CONN) + stream(PARAMS, 1, pairs(params)) + stream(STDIN, 1, b"abc" + smuggled))
        assert "evil" not in c.finish().text
        assert c.request(script, query="i=good").text.count("good") == 1


@pytest.mark.parametrize("name, data", [
    ("version 2", b"\x02" + begin(1)[1:]),
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a short BEGIN_REQUEST", record(fcgi.BEGIN, 1, b"\0\1")),
    ("a pair longer than its record", begin(1) + record(PARAMS, 1, struct.pack("!BI", 3, 0x80ffffff) + b"abc") + record(PARAMS, 1) + record(STDIN, 1)),
    ("a BEGIN_REQUEST for a running id", begin(1) + begin(1)),
    ("zeros", bytes(64)),
    ("noise", bytes(range(255, -1, -1)) * 8),
])
def test_malformed_input_closes_that_connection_with_one_line(server, name, data):
    s = server(log_level="notice").start()
    script = s.script("a.php", "echo 'ok';")
    with s.connect() as good, s.connect() as bad:
        assert good.request(script).text == "ok"
        before = s.log.count("\n")
        bad.send(data)
        while bad.read_record() is not None:
            pass
        wait_for(lambda: s.log.count("\n") > before, "a log line")
        assert good.request(script).text == "ok"
    assert s.request(script).text == "ok"
    lines = s.log.splitlines()[before:]
    assert len(lines) == 1 and re.search(r"WARNING: .*\[pool www\]", lines[0]), lines


def test_half_a_request_and_the_end(echo):
    s, script = echo
    whole = begin(1) + stream(PARAMS, 1, pairs(params_for(script))) + record(STDIN, 1)
    for cut in range(1, len(whole), 37):
        with s.connect() as c:
            c.send(whole[:cut])
    assert s.request(script).complete
    wait_for(lambda: s.status()["active processes"] == 0)


def test_stdin_without_a_length_gets_one(echo):
    s, script = echo
    params = params_for(script, "POST", b"")
    del params["CONTENT_LENGTH"]
    with s.connect() as c:
        c.send(begin(1) + stream(PARAMS, 1, pairs(params)) + stream(STDIN, 1, b"hello"))
        assert '"length":"5"' in c.finish().text


def test_headers_of_the_script_reach_the_web_server_untouched(echo):
    s, _ = echo
    script = s.script("h.php", "header('X-One: a'); header('HTTP/1.1 418 Teapot'); setcookie('a', 'b'); echo 'body';")
    answer = s.request(script)
    assert answer.status == 418 and answer.header("X-One") == "a" and "a=b" in answer.header("Set-Cookie")
    assert answer.text == "body"


@pytest.mark.parametrize("allowed, may", [("127.0.0.1", True), ("10.0.0.0/8, 127.0.0.0/24", True), ("::1", False), ("127.1.0.0/16", False)])
def test_allowed_clients(server, allowed, may):
    s = server(pools={"www": {"listen": f"0.0.0.0:{free_port()}", "listen.allowed_clients": allowed}}).start()
    assert "can be reached from other hosts" not in s.log
    with s.connect() as connection:
        if may:
            assert connection.request(s.script("a.php", "echo 'ok';")).text == "ok"
        else:
            assert connection.at_end()
    if not may:
        s.wait_log(r"""child \d+ said into stderr: "ERROR: Connection disallowed: IP address '127.0.0.1' has been dropped\."\n""")


def test_a_socket_for_everybody_is_noticed(server):
    port = free_port()
    s = server(pools={"www": {"listen": f"0.0.0.0:{port}"}}).start()
    assert re.search(rf"NOTICE: .*\[pool www\] listen = 0.0.0.0:{port} can be reached from other hosts, .*; set listen.allowed_clients\n", s.log)
