"""The preload library by itself: a real php-cgi, with this test in the dispatcher's place."""
import os
import socket

import pytest

import fcgi
from server import Process, wait_for
from template import ACCEPTING, HELLO, SPAWN_FAILED, Template, become_subreaper


@pytest.fixture
def template():
    become_subreaper(True)
    t = Template(arguments=["-d", "memory_limit=128M"]).ready()  # arguments leave room for a title
    yield t
    t.close()
    become_subreaper(False)


def request_over(connection, script):
    c = fcgi.Connection.__new__(fcgi.Connection)
    c.socket, c.buffer = connection, b""
    return c.request(script, keep=True)


def test_spawn_hello_accepting_connection(template, folder):
    script = folder / "a.php"
    script.write_text("<?php echo getmypid();")
    worker = template.spawn(slot=5, generation=9)
    kind, slot, generation, pid, stage, error = worker.report()
    assert (kind, slot, generation, stage, error) == (HELLO, 5, 9, 0, 0)
    assert Process(pid).parent == os.getpid()  # an orphan that came to the subreaper
    assert Process(pid).title == "php-cgi: pool test"
    assert Process(template.process.pid).title == "php-cgi: template test"
    assert worker.report()[0] == ACCEPTING
    connection = worker.connect()
    for _ in range(3):  # a kept connection
        assert request_over(connection, script).text == str(pid)
    connection.close()
    assert worker.report()[0] == ACCEPTING
    assert request_over(worker.connect(), script).text == str(pid)
    worker.close()
    assert os.waitpid(pid, 0)[1] == 0  # in order, exit code 0


def test_a_connection_that_closes_unused_brings_the_next_accept(template):
    worker = template.spawn()
    pid = worker.report()[3]
    assert worker.report()[0] == ACCEPTING
    worker.connect().close()
    assert worker.report()[0] == ACCEPTING
    worker.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_the_channels_end_ends_an_idle_worker(template):
    worker = template.spawn()
    pid = worker.report()[3]
    assert worker.report()[0] == ACCEPTING
    worker.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_scripts_inherit_nothing_and_keep_their_own_accept(template, folder):
    script = folder / "a.php"
    script.write_text("""<?php
        $server = stream_socket_server('tcp://127.0.0.1:0'); $name = stream_socket_get_name($server, false);
        $client = stream_socket_client("tcp://$name"); $peer = stream_socket_accept($server); fwrite($client, 'x'); echo fread($peer, 1);
        echo '|', shell_exec('env | grep -c -e TQFPM_TEMPLATE -e LD_PRELOAD');""")
    worker = template.spawn()
    pid = worker.report()[3]
    worker.report()
    assert request_over(worker.connect(), script).text.split() == ["x|0"]
    worker.close()
    os.waitpid(pid, 0)


def test_many_workers_at_once(template):
    before = len(Process(template.process.pid).fds)
    workers = [template.spawn(slot=i) for i in range(30)]
    hellos = [w.report() for w in workers]
    assert [h[1] for h in hellos] == list(range(30)) and len({h[3] for h in hellos}) == 30
    for w in workers:
        w.close()
    for h in hellos:
        assert os.waitpid(h[3], 0)[1] == 0
    wait_for(lambda: len(Process(template.process.pid).fds) == before)  # the template keeps none of what it passed on


def test_a_spawn_without_descriptors_is_refused(template):
    template.control.send(b"\1\0\0\0" + b"\7\0\0\0" * 2 + bytes(4))
    kind, slot, generation, error, _ = template.reply()
    assert (kind, slot, generation) == (SPAWN_FAILED, 7, 7) and error != 0


def test_the_template_ends_with_its_control_socket():
    t = Template().ready()
    t.control.shutdown(socket.SHUT_RDWR)
    assert t.process.wait(20) == 0
    t.control.close()
