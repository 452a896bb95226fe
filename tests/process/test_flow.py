"""How requests and answers flow: bodies that wait, pipelines, half closed connections, peers that send or read too little,
too much or nothing at all, and what all that may cost."""
import os
import random
import re
import select
import signal
import socket
import subprocess
import time

import pytest

import fcgi
from fcgi import KEEP_CONN, PARAMS, STDIN, begin, pairs, params_for, record, stream
from pressure import (MIB, SLEEP, UPLOAD, Later, Memory, busy, ends, exchange, local, offer, page, push, queued, said_of, still_open,
                      whole)
from server import in_parallel, wait_for

BODY = bytes(range(256)) * 12288  # 3 MiB: three times request_buffer_size


def upload(s, script, body=BODY, timeout=10):
    """What the script says to the body, or what went wrong."""
    try:
        return s.request(script, timeout=timeout, method="POST", body=body).text
    except OSError as error:
        return repr(error)


# --- bodies larger than request_buffer_size -------------------------------------------------------------------------

def test_a_large_body_that_waited_for_a_worker_arrives(server, folder):
    s = server(pools=local(folder)).start()
    sleep, script = s.script("sleep.php", SLEEP), s.script("upload.php", UPLOAD)
    running = Later(lambda: s.request(sleep, query="ms=800"))
    busy(s)
    assert upload(s, script) == said_of(BODY)
    assert running.result().complete
    assert s.request(sleep, timeout=5).complete  # the worker is there for others


def test_ten_uploads_at_once_over_one_worker(server):
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    script = s.script("upload.php", UPLOAD)
    assert in_parallel(10, lambda i: upload(s, script)) == [said_of(BODY)] * 10


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR2], ids=["stop", "reload"])
def test_a_graceful_end_waits_for_a_waiting_upload_and_not_for_ever(server, folder, number):
    s = server(pools=local(folder)).start()
    sleep, script = s.script("sleep.php", SLEEP), s.script("upload.php", UPLOAD)
    old, = s.dispatchers()
    running = Later(lambda: s.request(sleep, query="ms=800"))
    busy(s)
    uploading = Later(lambda: upload(s, script, timeout=6))
    queued(s)
    s.signal(number)
    assert uploading.result() == said_of(BODY) and running.result().complete
    if number == signal.SIGQUIT:
        assert s.wait(6) == 0
    else:
        wait_for(lambda: not old.alive, "the end of the old generation", timeout=6)


# --- workers that are lost while they are given something ----------------------------------------------------------

@pytest.mark.parametrize("size", [0, len(BODY)])
def test_workers_that_died_unseen_without_a_queue(server, folder, size):
    """There is no place to put the request that comes back: it is answered, and the dispatcher goes on."""
    s = server(pools=local(folder, **{"pm.max_children": 2, "queue.max_length": 0})).start()
    script = s.script("upload.php", UPLOAD)
    dispatcher, = s.dispatchers()
    for _ in range(5):
        workers = s.all_workers()
        wait_for(lambda: s.status()["idle processes"] == 2, "both are idle")
        os.kill(dispatcher.pid, signal.SIGSTOP)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        answers = [Later(lambda: s.request(script, timeout=8, method="POST", body=BODY[:size])) for _ in range(3)]
        os.kill(dispatcher.pid, signal.SIGCONT)
        got = [each.result() for each in answers]
        assert all(isinstance(each, fcgi.Response) and each.complete and each.status in (200, 502, 503) for each in got), got
    assert s.dispatchers()[0].pid == dispatcher.pid


# --- what was received and what is owed -----------------------------------------------------------------------------

@pytest.mark.parametrize("keep_last", [False, True])
def test_twenty_pipelined_requests_with_one_id(server, folder, keep_last):
    """php-fpm answers 20 of 20."""
    s = server(pools=local(folder)).start()
    script = s.script("echo.php", "echo $_GET['i'];")
    with s.connect(timeout=8) as c:
        c.send(b"".join(whole(script, keep=i < 19 or keep_last, query=f"i={i}") for i in range(20)))
        assert [c.finish().text for _ in range(20)] == [str(i) for i in range(20)]
        if keep_last:
            assert c.request(script, query="i=again", keep=False).text == "again"
        assert c.at_end()


def test_pipelined_uploads_with_one_id(server, folder):
    s = server(pools=local(folder)).start()
    script = s.script("upload.php", UPLOAD)
    bodies = [b"x" * 10, BODY, b"", b"y" * 70000, BODY]
    data = b"".join(whole(script, keep=i < 4, body=body, method="POST") for i, body in enumerate(bodies))
    with s.connect(timeout=8) as c:
        sending = Later(lambda: c.send(data))
        assert [c.finish().text for _ in bodies] == [said_of(body) for body in bodies]
        assert c.at_end() and sending.result() is None


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("where", ["own page", "idle worker", "running", "waiting", "refused"])
def test_a_peer_that_has_closed_its_half_gets_its_answer(server, folder, where, keep):
    """Over a Unix socket, which tells a closed half from a closed connection; php-fpm answers."""
    s = server(pools=local(folder, **{"queue.max_length": 0 if where == "refused" else 10})).start()
    sleep = s.script("sleep.php", SLEEP)
    if where in ("waiting", "refused"):
        running = Later(lambda: s.request(sleep, query="ms=800"))
        busy(s)
    with s.connect(timeout=5) as c:
        c.send(page("/ping", keep=keep) if where == "own page" else whole(sleep, keep=keep, query="ms=300"))
        if where == "running":
            busy(s)
        c.socket.shutdown(socket.SHUT_WR)
        answer = c.finish()
        assert answer.complete and answer.status == (503 if where == "refused" else 200), answer
        assert c.at_end()
    if where in ("waiting", "refused"):
        assert running.result().complete


@pytest.mark.parametrize("at_once", [True, False])
def test_a_closed_half_over_tcp_does_not_end_what_runs(server, at_once):
    """TCP does not tell it from a closed connection before something is sent there; php-fpm answers."""
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    sleep = s.script("sleep.php", SLEEP)
    with s.connect(timeout=5) as c:
        c.send(whole(sleep, query="ms=500"))
        if not at_once:
            busy(s)
        c.socket.shutdown(socket.SHUT_WR)
        answer = c.finish()
        assert answer.complete and answer.status == 200 and c.at_end()
    assert s.request(sleep, timeout=5).complete


def test_many_pipelined_requests_and_a_closed_half(server, folder):
    s = server(pools=local(folder)).start()
    script = s.script("echo.php", "echo $_GET['i'];")
    with s.connect(timeout=8) as c:
        c.send(b"".join(whole(script, keep=True, query=f"i={i}") for i in range(20)))
        c.socket.shutdown(socket.SHUT_WR)
        assert [c.finish().text for _ in range(20)] == [str(i) for i in range(20)]
        assert c.at_end()


@pytest.mark.parametrize("params", [b"", pairs({"A": "B"})], ids=["none", "some"])
def test_an_abort_before_the_end_of_the_parameters_is_answered(server, folder, params):
    s = server(pools=local(folder)).start()
    script = s.script("a.php", "echo 'ok';")
    with s.connect(timeout=4) as c:
        c.send(begin(1, flags=KEEP_CONN) + (record(PARAMS, 1, params) if params else b"") + record(fcgi.ABORT, 1))
        assert c.finish().complete
        assert c.request(script).text == "ok"  # the id is free, the connection stays
        c.send(begin(1) + record(fcgi.ABORT, 1))
        assert c.finish().complete and c.at_end()


@pytest.mark.parametrize("keep, shut", [(True, False), (False, False), (False, True)])
def test_a_body_that_ends_before_its_length(server, folder, keep, shut):
    """The script runs with what there is: php-fpm does so once it has seen the peer's end, and waits for that."""
    s = server(pools=local(folder)).start()
    script = s.script("upload.php", UPLOAD)
    with s.connect(timeout=5) as c:
        c.send(whole(script, keep=keep, body=b"a=1&b=2", method="POST", extra={"CONTENT_LENGTH": 100}))
        if shut:
            c.socket.shutdown(socket.SHUT_WR)
        answer = c.finish()
        assert answer.complete and answer.text == said_of(b"a=1&b=2")
        if keep:
            assert c.request(script, method="POST", body=b"next").text == said_of(b"next")
        else:
            assert c.at_end()
    assert s.request(script, timeout=5, method="POST", body=b"other").text == said_of(b"other")


@pytest.mark.parametrize("size", [7, 2 * MIB])
def test_a_body_that_stops_is_ended_by_client_body_timeout(server, folder, size):
    s = server(pools=local(folder, client_body_timeout="1s")).start()
    script = s.script("upload.php", UPLOAD)
    with s.connect(timeout=6) as c:
        started = time.monotonic()
        c.send(whole(script, body=b"x" * size, method="POST", end=False, extra={"CONTENT_LENGTH": size + 100}))
        answer = c.finish()
        assert answer.status in (None, 408) and time.monotonic() - started > 0.9
    assert s.request(script, timeout=5, method="POST", body=b"other").text == said_of(b"other")


def test_client_body_timeout_is_for_pieces_and_not_for_waiting(server, folder):
    """A slow body whose pieces come is read; one that nobody reads because the worker is busy is not late."""
    s = server(pools=local(folder, client_body_timeout="1s")).start()
    sleep, script = s.script("sleep.php", SLEEP), s.script("upload.php", UPLOAD)
    with s.connect(timeout=5) as c:
        c.send(whole(script, body=b"x" * 8, method="POST", end=False)[:-16])
        for _ in range(8):
            c.send(record(STDIN, 1, b"x"))
            time.sleep(0.25)  # the pace of the sender
        c.send(record(STDIN, 1))
        assert c.finish().text == said_of(b"x" * 8)
    running = Later(lambda: s.request(sleep, query="ms=2500"))
    busy(s)
    assert upload(s, script) == said_of(BODY)
    assert running.result().complete


# --- streams that end in the middle of anything ---------------------------------------------------------------------

def cut_off(s, streams):
    """A connection for each stream, with its half closed behind it."""
    made = []
    for data in streams:
        made.append(s.connect(timeout=5))
        offer(made[-1], data)
        made[-1].socket.shutdown(socket.SHUT_WR)
    return made


def left_open(s, streams, seconds):
    """Those of the streams after which the connection stays open."""
    connections = cut_off(s, streams)
    stuck = still_open(connections, seconds)
    for each in connections:
        each.close()
    return [streams[connections.index(each)] for each in stuck]


def test_each_beginning_of_a_request_and_the_end(server, folder):
    s = server(pools=local(folder, **{"pm.max_children": 2})).start()
    data = whole(s.script("upload.php", UPLOAD), method="POST", body=b"a=1&b=2")
    prefixes = [data[:i] for i in range(len(data) + 1)]
    stuck = sum((left_open(s, prefixes[i:i + 150], 2) for i in range(0, len(prefixes), 150)), [])
    assert not stuck, f"{len(stuck)} of {len(prefixes)} stay open, those of {[len(each) for each in stuck]} bytes"
    assert s.request(s.script("a.php", "echo 'ok';"), timeout=5).text == "ok"


def mutation(data, dice):
    data = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data))
        kind = dice.randrange(4)
        if kind == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at] = dice.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[at:at + dice.randint(1, 20)]
        else:
            data[at:at] = data[at:at + dice.randint(1, 20)]
    return bytes(data)


def test_spoiled_requests_and_the_end(server, folder):
    s = server(pools=local(folder, **{"pm.max_children": 2})).start()
    data = whole(s.script("upload.php", UPLOAD), method="POST", body=b"a=1&b=2")
    dice = random.Random(7)
    spoiled = [mutation(data, dice) for _ in range(500)]
    stuck = left_open(s, spoiled[:250], 5) + left_open(s, spoiled[250:], 5)
    assert not stuck, f"{len(stuck)} of {len(spoiled)} stay open, the first: {stuck[0]!r}"
    assert s.request(s.script("a.php", "echo 'ok';"), timeout=5).text == "ok"


@pytest.mark.parametrize("length", [1, 8, 20, 60])
def test_a_request_that_stops_before_its_parameters_are_complete(server, folder, length):
    s = server(pools=local(folder, client_header_timeout="1s")).start()
    script = s.script("a.php", "echo 'ok';")
    with s.connect(timeout=5) as c:
        assert c.request(script).text == "ok"
        started = time.monotonic()
        c.send(whole(script)[:length])
        assert c.finish().status in (None, 408) and time.monotonic() - started > 0.9
    assert s.request(script).text == "ok"


def test_parameters_byte_by_byte_are_no_progress(server, folder):
    s = server(pools=local(folder, client_header_timeout="1s")).start()
    data = whole(s.script("a.php", "echo 'ok';"))
    started = time.monotonic()
    with s.connect(timeout=5) as c:
        for i in range(50):
            offer(c, data[i:i + 1])
            if select.select([c.socket], [], [], 0.1)[0]:  # the pace of the sender
                break
        assert c.finish().status in (None, 408) and 0.9 < time.monotonic() - started < 4


def test_a_connection_that_waits_for_its_next_request_is_not_late(server, folder):
    s = server(pools=local(folder, client_header_timeout="1s", client_body_timeout="1s", client_send_timeout="1s")).start()
    script = s.script("sleep.php", SLEEP)
    with s.connect() as new, s.connect() as kept:
        assert kept.request(script).complete
        assert kept.request(script, query="ms=2500").complete  # nor is one whose script takes its time
        assert not select.select([new.socket, kept.socket], [], [], 0)[0]
        assert kept.request(script).complete and new.request(script).complete


# --- what may be held for a client ----------------------------------------------------------------------------------

def test_answers_to_unknown_records_are_not_piled_up(server, folder):
    s = server(pools=local(folder)).start()
    count = 20 * MIB // 8
    with s.connect(timeout=10) as c:
        memory = Memory(s.dispatchers()[0])
        left = push(c, record(77, 0) * count)
        memory.stayed_below(8 * MIB, f"with {len(left)} bytes not taken")
        got = exchange(c, left, lambda got: len(got) >= 16 * count)
        assert got == record(fcgi.UNKNOWN, 0, bytes([77]) + bytes(7)) * count
    assert s.page("/ping").text == "pong"


def test_pages_of_a_pipeline_are_not_piled_up(server, folder):
    s = server(pools=local(folder, **{"pm.max_children": 16})).start()
    s.all_workers()  # each is a part of the page
    one = page("/status", "json&full")
    count = MIB // len(one)
    with s.connect(timeout=10) as c:
        s.page("/status", "json&full")
        memory = Memory(s.dispatchers()[0])
        left = push(c, one * count)
        memory.stayed_below(8 * MIB, f"with {len(left)} bytes not taken")
        tail = page("/ping", keep=False)  # its answer is the last one
        got = exchange(c, left + tail, lambda got: got.endswith(record(fcgi.END, 1, bytes(8))) and b"pong" in got[-500:])
        assert ends(got) == count + 1 and c.at_end()


@pytest.mark.parametrize("ids", [1, 8])
def test_a_million_empty_parameters_are_refused(server, folder, ids):
    """Eight requests, on connections of their own or on one."""
    s = server(pools=local(folder)).start()
    script = s.script("a.php", "echo 'ok';")
    params = pairs(params_for(script))
    params += bytes((MIB - len(params)) // 2 * 2)
    connections = [s.connect(timeout=6) for _ in range(8 // ids)]
    memory = Memory(s.dispatchers()[0])
    for c in connections:
        for number in range(1, ids + 1):
            offer(c, begin(number, flags=KEEP_CONN) + stream(PARAMS, number, params, chunk=65534))
    memory.stayed_below(16 * MIB)
    for c in connections:
        assert c.finish().status == 431
        c.close()
    memory.stayed_below(16 * MIB)
    assert s.request(script).text == "ok"


def test_parameters_as_web_servers_send_them_are_many_enough(server, folder):
    s = server(pools=local(folder)).start()
    script = s.script("count.php", "echo count(preg_grep('/^HTTP_X_/', array_keys($_SERVER))), ' ', strlen($_SERVER['HTTP_COOKIE']);")
    extra = {**{f"HTTP_X_{i}": "x" * 50 for i in range(500)}, "HTTP_COOKIE": "c" * 60000}
    assert s.request(script, extra=extra).text == "500 60000"


def answered(connections, patience=0.5):
    """Those of the connections whose ping is answered: until nothing comes for a while."""
    found = []
    while ready := select.select([c.socket for c in connections if c not in found], [], [], patience)[0]:
        patience = 0.3
        for c in [c for c in connections if c.socket in ready]:
            assert c.finish().text == "pong"
            found.append(c)
    return found


def test_connections_beyond_the_most_wait_and_hurt_nobody(server, folder):
    s = server(pools=local(folder, **{"listen.max_connections": 10})).start()
    script = s.script("a.php", "echo 'ok';")
    first = [s.connect(timeout=5) for _ in range(10)]
    for c in first:
        c.send(page("/ping"))
    assert len(answered(first)) == 10
    more = [s.connect(timeout=5) for _ in range(5)]
    for c in more:
        c.send(page("/ping"))
    assert not answered(more)
    assert [c.request(script).text for c in first] == ["ok"] * 10
    for number in range(1, 6):
        first.pop().close()
        wait = select.select([c.socket for c in more], [], [], 5)[0]
        assert len(wait) == 1, f"{len(wait)} are served when {number} have gone"
        served, = [c for c in more if c.socket in wait]
        assert served.finish().text == "pong" and served.request(script).text == "ok"
        first.insert(0, served)
        more.remove(served)
    for c in first:
        c.close()


def test_bodies_of_many_clients_share_one_budget(server, folder):
    s = server(pools=local(folder, **{"memory.buffers": "8M", "client_body_timeout": "2s"})).start()
    script = s.script("upload.php", UPLOAD)
    memory = Memory(s.dispatchers()[0])
    connections = [s.connect(timeout=5) for _ in range(30)]
    for c in connections:
        push(c, whole(script, method="POST", body=b"x" * 1000000, end=False, extra={"CONTENT_LENGTH": 1000100}), patience=0.05)
    memory.stayed_below(16 * MIB)
    assert s.page("/ping").text == "pong"
    for c in connections:
        c.close()
    assert upload(s, script) == said_of(BODY)


def test_answers_of_many_clients_share_one_budget(server, folder):
    s = server(pools=local(folder, **{"memory.buffers": "8M", "response_buffer_size": "2M", "pm.max_children": 2})).start()
    big = s.script("big.php", "echo str_repeat('y', 1900000);")
    memory = Memory(s.dispatchers()[0])
    connections = [s.connect(timeout=8) for _ in range(20)]
    for c in connections:
        c.start(big)
    wait_for(lambda: memory.growth > MIB, "answers that are not read")
    wait_for(lambda: s.page("/ping").text == "pong")
    assert all(c.finish().body == b"y" * 1900000 for c in connections)
    memory.stayed_below(16 * MIB)


# --- peers that do nothing ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("data", [b"\x01", begin(1, flags=KEEP_CONN)], ids=["a byte", "a beginning"])
def test_a_peer_that_has_sent_a_little_does_not_keep_the_old_generation(server, folder, data):
    s = server(pools=local(folder)).start()
    dispatcher, = s.dispatchers()
    others = [*s.all_workers(), *s.templates()]
    assert len(others) == 2
    with s.connect(timeout=10) as c:
        c.send(data)
        s.page("/ping")  # it has been read by then
        s.reload()
        wait_for(lambda: not any(each.alive for each in others), "the end of idle workers and template", timeout=3)
        wait_for(lambda: not dispatcher.alive, "the end of the old dispatcher", timeout=7)
        assert c.finish().status in (None, 408, 503)


def test_a_request_that_runs_keeps_neither_template_nor_idle_workers(server, folder):
    s = server(pools=local(folder, **{"pm.max_children": 3})).start()
    sleep = s.script("sleep.php", SLEEP)
    old = [*s.all_workers(), *s.templates()]
    running = Later(lambda: s.request(sleep, query="ms=4000"))
    busy(s)
    s.reload()
    wait_for(lambda: len([each for each in old if each.alive]) == 1, "only the busy worker is left", timeout=3)
    assert running.result().complete


def test_a_peer_that_never_reads_is_cut(server, folder):
    s = server(pools=local(folder, client_send_timeout="1s")).start()
    big = s.script("big.php", "echo str_repeat('y', 20000000);")
    with s.connect(timeout=5) as c:
        c.start(big)
        busy(s)
        assert s.request(s.script("a.php", "echo 'ok';"), timeout=6).text == "ok"
        answer = c.finish()
        assert answer.closed and not answer.complete and len(answer.body) < 20000000


def test_a_peer_that_reads_slowly_is_not_cut(server, folder):
    s = server(pools=local(folder, client_send_timeout="1s", response_buffer_size="64K")).start()
    big = s.script("big.php", "echo str_repeat('y', 3000000);")
    with s.connect(timeout=5) as c:
        c.start(big)
        got = b""
        for _ in range(12):
            got += c.socket.recv(100000)
            time.sleep(0.25)  # the pace of the reader
        c.buffer = got
        answer = c.finish()
        assert answer.complete and answer.body == b"y" * 3000000


# --- descriptors that are used up -----------------------------------------------------------------------------------

def limit_descriptors(process, more):
    """So many more descriptors may be opened. Its own user may say so, root only with CAP_SYS_RESOURCE."""
    limit = f"--nofile={max(process.fds) + 1 + more}:"
    subprocess.run(["prlimit", "--pid", str(process.pid), limit], user=process.uids[0], group=process.gids[0], extra_groups=[], check=True)


def test_connections_beyond_the_descriptors_wait_and_hurt_nobody(server, folder):
    s = server(pools=local(folder, **{"pm.max_children": 2})).start()
    script = s.script("pid.php", "echo getmypid();")
    workers = {str(w.pid) for w in s.all_workers()}
    wait_for(lambda: s.status()["idle processes"] == 2, "both are idle")
    dispatcher, = s.dispatchers()
    limit_descriptors(dispatcher, 12)
    waiting = [s.connect(timeout=5) for _ in range(40)]
    for c in waiting:
        c.send(page("/ping"))
    served = answered(waiting)
    assert 0 < len(served) < 40
    end = time.monotonic() + 2.5  # attempts to accept go on
    while time.monotonic() < end:
        assert {c.request(script).text for c in served} <= workers
    said = re.findall(r".*(?:[Tt]oo many open files|descriptors).*", s.log)
    assert len(said) == 1, said
    while waiting:
        waiting = [c for c in waiting if c not in served]
        for c in served:
            c.close()
        served = answered(waiting, patience=3)
        assert served or not waiting, f"{len(waiting)} are not served"
    assert {str(w.pid) for w in s.workers()} == workers


def used_up(s, dispatcher):
    """Connections that take all descriptors, the first of them running nothing yet."""
    connections = [s.connect(timeout=6) for _ in range(30)]
    for c in connections:
        c.send(page("/ping"))
    served = answered(connections)
    assert 0 < len(served) < 30, f"{dispatcher.fds} with {len(served)}"
    return connections, served


def test_a_worker_that_needs_a_connection_waits_for_a_descriptor(server, folder):
    """Its request has been aborted, its connection is closed; another client takes the descriptor."""
    s = server(pools=local(folder)).start()
    script = s.script("some.php", "for ($i = 0; $i < 100; $i++) { echo str_repeat('x', 8192); flush(); usleep(10000); }")
    pid, = [w.pid for w in s.all_workers()]
    dispatcher, = s.dispatchers()
    limit_descriptors(dispatcher, 12)
    connections, served = used_up(s, dispatcher)
    served[0].start(script, keep=True)
    assert served[0].read_record()[0] == fcgi.STDOUT
    served[0].send(record(fcgi.ABORT, 1))
    assert served[0].finish().complete
    for c in served[1:]:
        c.send(page("/ping"))
    assert len(answered(served[1:])) == len(served) - 1  # the others notice nothing
    assert [w.pid for w in s.workers()] == [pid]
    for c in connections:
        c.close()
    assert s.request(s.script("pid.php", "echo getmypid();"), timeout=8).text == str(pid)


def test_a_worker_that_has_died_is_replaced_when_descriptors_are_free(server, folder):
    s = server(pools=local(folder)).start()
    worker, = s.all_workers()
    dispatcher, = s.dispatchers()
    limit_descriptors(dispatcher, 12)
    connections, served = used_up(s, dispatcher)
    os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: not worker.alive)
    for c in served:
        c.send(page("/ping"))
    assert len(answered(served)) == len(served)
    for c in connections:
        c.close()
    answer = s.request(s.script("pid.php", "echo getmypid();"), timeout=8)
    assert answer.status == 200 and int(answer.text) != worker.pid and dispatcher.alive
