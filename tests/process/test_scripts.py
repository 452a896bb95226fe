"""Which script runs, what it is told, and security.limit_extensions: side by side with php-fpm where that is installed."""
import itertools
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import fcgi
import foreign
import php
from server import free_port, wait_for

# (PHP 7.4 has JSON in an extension.)
SHOW = """<?php foreach (array_filter($_SERVER, 'is_scalar') + ['file' => __FILE__, 'ini' => ini_get('cgi.fix_pathinfo')] as $name => $value)
echo bin2hex($name), '=', bin2hex($value), "\\n";"""
OWNER = (pwd.getpwnam("www-data").pw_uid, pwd.getpwnam("www-data").pw_gid)
OWN = ("TQFPM_REQUEST_ID", "TQFPM_QUEUE_WAIT_US", "REQUEST_TIME", "REQUEST_TIME_FLOAT", "USER", "HOME", "PHP_FCGI_MAX_REQUESTS")


class Fpm:
    """A php-fpm with one pool."""

    def __init__(self, folder, **settings):
        self.address = f"127.0.0.1:{free_port()}"
        conf = folder / "fpm.conf"
        lines = {"user": "www-data", "group": "www-data", "listen": self.address, "pm": "static", "pm.max_children": 1, **settings}
        conf.write_text(f"[global]\nerror_log = {folder}/fpm.log\n[www]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items()))
        self.process = subprocess.Popen([php.FPM, "-F", "-y", str(conf)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for(self.listens, "php-fpm")

    def listens(self):
        host, port = self.address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def close(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def fpm(folder):
    if php.FPM is None:
        pytest.skip("no php-fpm to compare with")
    made = []

    def make(**settings):
        made.append(Fpm(folder, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def tree(www):
    """Scripts, and what only looks like some."""
    for name in ("a.php", "dir.php/b.php", "dir.php/noext", "sub/c.phar", "evil.jpg", "noext", "s p.php", "a%20b.php"):
        path = www / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SHOW)
    (www / "link.php").symlink_to("evil.jpg")
    (www / "link.jpg").symlink_to("a.php")
    (www / "empty.php").mkdir()


def ask(address, params):
    """(status, what the web server's error log gets, what the script was told)"""
    with fcgi.Connection(address, 20) as connection:
        base = {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "SERVER_NAME": "x", "REQUEST_URI": "/u", **params}
        connection.send(fcgi.begin(1) + fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs({k: v for k, v in base.items() if v is not None})) +
                        fcgi.record(fcgi.STDIN, 1))
        answer = connection.finish()
    try:
        told = dict(map(lambda text: bytes.fromhex(text).decode(), line.split("=")) for line in answer.text.splitlines())
        for name in OWN:
            told.pop(name, None)
    except ValueError:
        told = answer.text
    return answer.status, answer.stderr.decode().strip(), told or answer.text


def paths(www):
    yield from (f"{www}/{name}" for name in (
        "a.php", "a.php/", "a.php/x", "a.php/x/y.php", "a.php//x", "none.php", "none.php/x", "dir.php", "dir.php/", "dir.php/b.php",
        "dir.php/b.php/x", "dir.php/noext", "dir.php/noext/z.php", "dir.php/none.php", "sub/c.phar/x", "evil.jpg", "evil.jpg/x.php",
        "evil.jpg/x", "noext", "noext/a.php", "link.php", "link.jpg", "empty.php/x", "sub", "sub/", "sub/../a.php", "s p.php/x y",
        "a%20b.php", "a.php\\x", "./a.php/x", "a.PHP", "a.php.", ".php", "a.php\0.jpg", "evil.jpg\0.php"))
    yield from ("", None, "/", "a.php", "..", "/..", "php://input", "phar://" + f"{www}/evil.jpg/x.php", "//a.php")


def requests(www):
    """SCRIPT_FILENAME as web servers send it, each with other parameters that matter."""
    for path in paths(www):
        yield {"SCRIPT_FILENAME": path, "SCRIPT_NAME": "/a.php"}
        yield {"SCRIPT_FILENAME": path, "SCRIPT_NAME": "/a.php", "PATH_INFO": "", "DOCUMENT_ROOT": str(www)}
        yield {"SCRIPT_FILENAME": path, "SCRIPT_NAME": "/a.php", "PATH_INFO": "/x", "PATH_TRANSLATED": f"{www}/x"}
        yield {"SCRIPT_FILENAME": path, "SCRIPT_NAME": "/a.php/x", "PATH_INFO": "/a.php/x", "DOCUMENT_ROOT": f"{www}/"}
    for prefix, path in itertools.product(("proxy:fcgi://127.0.0.1:9000", "proxy:balancer://php", "Proxy:Fcgi://localhost"), (
            "/a.php", "/a.php/x", "/a.php/x%20y+z", "/a.php/x?q=/y", "/evil.jpg/x.php", "/none.php", "/dir.php/b.php/z.php", "/a%20b.php",
            "/evil.jpg%00.php")):
        for script_name, path_info in (("/a.php", None), ("/a.php/x", None), ("/a.php/x y+z", None), ("/a.php", "/x"), ("/a.php", "/other")):
            yield {"SCRIPT_FILENAME": f"{prefix}{www}{path}", "SCRIPT_NAME": script_name, "PATH_INFO": path_info, "DOCUMENT_ROOT": str(www)}
    yield {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000"}
    for redirect, translated in itertools.product(("/a.php", None), (f"{www}/a.php", f"{www}/a.php/x", f"{www}/evil.jpg", f"{www}/x")):
        for filename, info in itertools.product((f"{www}/sub/c.phar", f"{www}/link.php", None), ("/x", "", None)):
            yield {"SCRIPT_FILENAME": filename, "SCRIPT_NAME": "/cgi/php", "PATH_INFO": info, "PATH_TRANSLATED": translated,
                   "REDIRECT_URL": redirect, "DOCUMENT_ROOT": str(www)}
            yield {"SCRIPT_FILENAME": filename, "SCRIPT_NAME": "/a.php", "PATH_INFO": info, "PATH_TRANSLATED": translated,
                   "REDIRECT_URL": redirect}
    for info in ("/a.php/x", "/a.php", "/b"):
        yield {"SCRIPT_FILENAME": f"{www}/a.php", "SCRIPT_NAME": "/a.php", "PATH_INFO": info, "SERVER_SOFTWARE": "Microsoft-IIS/10.0"}


def difference(ours, theirs, unlimited=False):
    """What is not the same, but for a script that is refused in another way."""
    refusals = {403, 404}
    if ours[0] in refusals and theirs[0] in refusals:
        # Which of the two it is can depend on files that nobody needs to look at, where one part of a path alone may run.
        return None
    a, b = ours[2], theirs[2]
    if unlimited and ours[0] == 404 and not (isinstance(b, dict) and b["file"].endswith(".php")):
        return None  # evil.jpg/x.php: not by accident; no name at all: PHP crashes
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: (a.get(key), b.get(key)) for key in {*a, *b} if a.get(key) != b.get(key)} or None
    return (ours, theirs) if ours != theirs else None


def decodes_path_info(version):
    """Does php-fpm of this version decode the path info that Apache sends in the script's path alone?"""
    full = php.FULL_VERSION if version == php.VERSION else f"{version}.99"
    return php.at_least("8.4.5", full) or php.at_least("8.3.18", full) and not php.at_least("8.4", full)


@pytest.mark.parametrize("spawn", ["fork", "exec"])
@pytest.mark.parametrize("settings", [
    {}, {"security.limit_extensions": ""}, {"php_admin_value[cgi.fix_pathinfo]": "0"},
    {"php_admin_value[cgi.fix_pathinfo]": "0", "php_admin_value[cgi.discard_path]": "1"}, {"security.limit_extensions": ".php .jpg"},
], ids=["default", "unlimited", "nofix", "nofix-discard", "jpg"])
def test_scripts_are_told_the_same_as_by_php_fpm(server, folder, fpm, spawn, settings):
    s = server(pools={"www": {"php.spawn": spawn, "pm.max_children": 1, **settings}}).start()
    tree(s.www)
    other = fpm(**settings)
    differences = []
    for params in requests(s.www):
        if spawn == "exec" and decodes_path_info(php.VERSION) and "/x%20y" in (params["SCRIPT_FILENAME"] or "") and not params["PATH_INFO"]:
            continue  # nobody tells a dispatcher without a template which PHP it has
        found = difference(ask(s.address(), params), ask(other.address, params), "security.limit_extensions" in settings)
        if found:
            differences.append(f"{params}: tqfpm and php-fpm: {found}")
    assert not differences, "\n".join(differences[:10])


# --- an upload that is no script, in places that the dispatcher sees and in ones that it does not ----------------------

SEES = "<?php echo 'ran ', basename(__FILE__), ' ', $_SERVER['PATH_INFO'] ?? '-', ' ', $_SERVER['PHP_SELF'];"


def place(folder, where):
    """(pool settings, the folder of the scripts as PHP names it, and as we do)"""
    if where == "seen":
        home = folder / "www"
        return {}, home, home
    if where == "hidden":
        home = folder / "home"
        home.mkdir()
        shutil.chown(home, "www-data", "www-data")
        home.chmod(0o700)
        return {}, home / "site", home / "site"
    jail = folder / "jail"
    jail.mkdir()
    return {"chroot": jail, "chdir": "/"}, Path("/site"), jail / "site"


def fill(site):
    site.mkdir(exist_ok=True)
    (site / "dir.php").mkdir()
    (site / "up").mkdir()
    for name in ("a.php", "dir.php/b.php", "up/evil.jpg", "up/noext"):
        (site / name).write_text(SEES)
    (site / "abs.php").symlink_to("/site/a.php")
    for path in site.rglob("*"):
        os.chown(path, *OWNER, follow_symlinks=False)
    shutil.chown(site, "www-data", "www-data")


@pytest.mark.parametrize("spawn", ["fork", "exec"])
@pytest.mark.parametrize("where", ["seen", "hidden", "jail"])
def test_only_scripts_run(server, folder, where, spawn):
    if (where, spawn) == ("jail", "exec"):
        pytest.skip("chroot needs php.spawn = fork")
    settings, php, site = place(folder, where)
    s = server(pools={"www": {"php.spawn": spawn, "security.limit_extensions": ".php", **settings}})
    fill(site)
    s.start()

    def get(path, **extra):
        answer = s.request(f"{php}/{path}", extra={"SCRIPT_NAME": f"/{path}", "REQUEST_URI": f"/{path}", **extra})
        return answer.status, answer.text, answer.stderr.decode()

    denied = "Access to the script '{}' has been denied (see security.limit_extensions)"
    assert get("a.php")[:2] == (200, "ran a.php - /a.php")
    assert get("dir.php/b.php")[:2] == (200, "ran b.php - /dir.php/b.php")
    assert get("dir.php/b.php/c.php", PATH_INFO="/c.php", SCRIPT_NAME="/dir.php/b.php")[:2] == (200, "ran b.php /c.php /dir.php/b.php/c.php")
    for path in ("up/evil.jpg", "up/evil.jpg/", "up/evil.jpg/x", "up/noext"):
        script = f"{php}/{path}".removesuffix("/").removesuffix("/x")
        assert get(path) == (403, "Access denied.\n", denied.format(script)), path
        s.wait_log(f"NOTICE: .*{denied.format(script).replace('(', '.').replace(')', '.')}")
    for path in ("up/evil.jpg/x.php", "up/noext/x.php", "up/none.jpg", "none.php", "dir.php/none.php", "../site/a.php"):
        assert get(path) == (404, "File not found.\n", "Primary script unknown"), path
    assert get("up/evil.jpg/x.php/y.php")[0] == 403
    assert get("x\0/../up/evil.jpg")[0] in (403, 404)
    assert get("up/evil.jpg\0.php")[0] == 403
    for path in ("up/evil.jpg", "up/evil.jpg/x.php", "a.php/../up/evil.jpg"):
        for name in ("PATH_TRANSLATED", "SCRIPT_FILENAME"):
            assert "ran evil" not in get("a.php", REDIRECT_URL="/a.php", **{name: f"{php}/{path}"})[1]
    if where == "jail":
        assert get("abs.php/x.php/y", PATH_INFO="/x.php/y", SCRIPT_NAME="/abs.php")[:2] == (200, "ran a.php /x.php/y /abs.php/x.php/y")
    assert "exited" not in s.log


def test_the_limit_of_a_pool(server, folder):
    """Other extensions, and none at all."""
    s = server(pools={"www": {"security.limit_extensions": ".html .inc"}, "open": {"security.limit_extensions": ""},
                      "usual": {"access.log": folder / "usual.log", "access.format": "%s %f"}}).start()
    for name in ("a.php", "a.html", "a.inc", "a", ".inc"):
        s.script(name, "echo 'ran';")
    assert [s.request(f"{s.www}/{name}").status for name in ("a.php", "a.html", "a.inc", "a", ".inc")] == [403, 200, 200, 403, 200]
    assert [s.request(f"{s.www}/{name}", "open").text for name in ("a.php", "a", "a/x")] == ["ran"] * 3
    assert s.request(f"{s.www}/a.html", "usual").status == 403
    wait_for(lambda: (folder / "usual.log").exists() and (folder / "usual.log").read_text() == f"403 {s.www}/a.html\n", "the access log")


def test_a_folder_that_becomes_a_file_is_not_run(server):
    """The request waits for a worker while its folder is replaced: what was judged is what runs."""
    s = server(pools={"www": {"pm.max_children": 1}}).start()
    slow = s.script("slow.php", "file_put_contents(dirname(__FILE__) . '/started', 'x'); while (!file_exists(__DIR__ . '/go')) { clearstatcache(); usleep(2000); }")
    os.chmod(s.www, 0o777)
    trap = s.www / "photo"
    trap.mkdir()
    (trap / "x.php").write_text("<?php echo 'script';")
    with s.connect() as first, s.connect() as second:
        first.start(slow)
        wait_for((s.www / "started").exists)
        second.start(f"{trap}/x.php")
        wait_for(lambda: s.status()["listen queue"] == 1)
        shutil.rmtree(trap)
        trap.write_text("<?php echo 'picture';")
        (s.www / "go").write_text("")
        assert first.finish().status == 200
        assert second.finish().status == 404


def test_a_short_path_info_harms_nobody(server):
    s = server().start()
    script = s.script("a.php", "var_dump($_SERVER['PATH_INFO']);")
    for length in range(1, 80, 7):
        answer = s.request(f"{script}/{'A' * length}", extra={"PATH_INFO": "", "HTTP_X": "A" * 4000})
        assert answer.text == 'string(0) ""\n'
    assert s.status()["accepted conn"] > 0 and not [line for line in s.log.splitlines() if "SIGSEGV" in line]


@pytest.mark.parametrize("version", foreign.VERSIONS)
@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_every_php_is_told_the_same(server, folder, version, spawn):
    s = server(pools={"www": {"php.spawn": spawn, "pm.max_children": 1, **foreign.settings(version, folder)}}).start()
    (s.www / "a.php").write_text(SHOW)
    script = f"{s.www}/a.php"
    plain = {"SCRIPT_NAME": "/a.php", "DOCUMENT_ROOT": str(s.www)}

    def told(filename, **params):
        status, _, answer = ask(s.address(), {"SCRIPT_FILENAME": filename, **plain, **params})
        assert status == 200 and answer["ini"] == "1" and answer["file"] == script
        return [answer.get(name) for name in ("SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "PHP_SELF")]

    assert told(script) == [script, "/a.php", None, None, "/a.php"]
    assert told(script, PATH_INFO="") == [script, "/a.php", "", None, "/a.php"]
    assert told(script, PATH_INFO="/x", PATH_TRANSLATED="/y") == [script, "/a.php", "/x", "/y", "/a.php/x"]
    encoded = "/x y" if decodes_path_info(version) and spawn == "fork" else "/x%20y"
    assert told(f"proxy:fcgi://h:1{script}/x%20y", SCRIPT_NAME="/a.php/x y") == [
        script, "/a.php", encoded, f"{s.www}{encoded}", f"/a.php{encoded}"]


@pytest.mark.parametrize("text", ["0", "Off", "no"])
def test_what_php_ini_says_counts(server, folder, text):
    """A hardened php.ini: no splitting, PHP_SELF is the path info, scripts can see it."""
    (folder / "php.ini").write_text(f"cgi.fix_pathinfo = {text}\n")
    s = server(pools={"www": {"php.ini": folder / "php.ini"}}).start()
    (s.www / "a.php").write_text(SHOW)
    params = {"SCRIPT_FILENAME": f"{s.www}/a.php", "SCRIPT_NAME": "/a.php", "PATH_INFO": "/x"}
    status, _, told = ask(s.address(), params)
    assert (status, told["PHP_SELF"], told["ini"]) == (200, "/x", "" if text != "0" else "0")
    assert ask(s.address(), {**params, "SCRIPT_FILENAME": f"{s.www}/a.php/x"})[0] != 200
    assert ask(s.address(), {**params, "PATH_TRANSLATED": f"{s.www}/b.jpg"})[0] == 403  # that is what would run
