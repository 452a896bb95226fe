"""tqfpm --migrate: php-fpm's files become tqfpm's, and nothing is overwritten."""
import os
import re
import subprocess

import pytest

import php
from server import TQFPM, free_port
from test_scripts import Fpm

DEBIAN = php.FOLDER


def migrate(*arguments, cwd=None, env=None):
    done = subprocess.run([TQFPM, *map(str, arguments)], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", [php.VERSION, DEBIAN, DEBIAN + "/", DEBIAN + "/php-fpm.conf"])
@pytest.mark.skipif(not os.path.exists(DEBIAN), reason="no php-fpm configuration of Debian's")
def test_debians_configuration(folder, how):
    to = folder / "new"
    code, report, errors = migrate("--migrate", how, "--to", to)
    assert (code, errors) == (0, "") and f"{DEBIAN}/" in report and "For you to decide:" in report
    assert sorted(str(p.relative_to(to)) for p in to.rglob("*.conf*")) == ["tqfpm.conf", "tqfpm.d/www.conf"]
    assert all(oct(p.stat().st_mode & 0o777) == "0o644" for p in to.rglob("*.conf"))
    www = (to / "tqfpm.d/www.conf").read_text()
    assert f'php.version = "{php.VERSION}"' in www and f'php.ini = "{DEBIAN}"' in www and re.search(rf"^; {DEBIAN}/pool.d/www.conf:\d+$", www, re.M)
    done = subprocess.run([TQFPM, "-t", "-y", to / "tqfpm.conf"], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1, done.stderr
    # -tt of both shows the same, but for the names of files.
    before, after = (subprocess.run([TQFPM, "-tt", "-y", path], capture_output=True, text=True).stdout for path in
                     (f"{DEBIAN}/php-fpm.conf", to / "tqfpm.conf"))
    assert [line for line in before.splitlines() if "php.version" not in line] == \
        [line for line in after.splitlines() if "php.version" not in line]
    # Once more: nothing changes, nobody complains.
    assert migrate("--migrate", how, "--to", to)[0] == 0


def write(folder, text, name="php-fpm.conf"):
    (folder / name).write_text(text)
    return folder / name


POOL = "[{0}]\nuser = www-data\nlisten = {1}\npm = static\npm.max_children = {2}\n"


def test_nothing_is_overwritten_and_nothing_is_left_half(folder):
    source = write(folder, "[global]\nerror_log = /dev/null\n" + POOL.format("a", free_port(), 1) + POOL.format("b", free_port(), 1))
    to = folder / "tqfpm-migrated"
    (to / "tqfpm.d").mkdir(parents=True)
    (to / "tqfpm.d/b.conf").write_text("mine")
    code, report, errors = migrate("-M", source, cwd=folder)
    assert code == 78 and report == "" and f"{to}/tqfpm.d/b.conf is there already" in errors
    assert [p.name for p in to.rglob("*") if p.is_file()] == ["b.conf"] and (to / "tqfpm.d/b.conf").read_text() == "mine"
    (to / "tqfpm.d/b.conf").unlink()
    (folder / "victim").write_text("keep")
    (to / "tqfpm.d/b.conf.new").symlink_to(folder / "victim")
    code, _, errors = migrate("-M", source, cwd=folder)
    assert code == 78 and "cannot write" in errors and (folder / "victim").read_text() == "keep"
    assert [p.name for p in to.rglob("*") if p.is_file() and not p.is_symlink()] == []
    (to / "tqfpm.d/b.conf.new").unlink()
    assert migrate("-M", source, cwd=folder)[0] == 0
    assert sorted(p.name for p in to.rglob("*") if p.is_file()) == ["a.conf", "b.conf", "tqfpm.conf"]
    # Another file that the new configuration would include, too.
    (to / "tqfpm.d/zz.conf").write_text("[a]\npm.max_children = 77\n")
    code, _, errors = migrate("-M", source, cwd=folder)
    assert code == 78 and "pm.max_children of pool a is not what it was" in errors


def test_a_folder_that_cannot_be_made(folder):
    source = write(folder, POOL.format("a", free_port(), 1))
    (folder / "file").write_text("")
    code, report, errors = migrate("-M", source, "-T", folder / "file/x")
    assert code == 78 and report == "" and "ERROR" in errors
    code, _, errors = migrate("-M", folder / "none.conf", "-T", folder / "x")
    assert code == 78 and "cannot read the configuration file" in errors and not (folder / "x").exists()
    code, _, errors = migrate("-M", write(folder, POOL.format("a", 1, 0), "bad.conf"), "-T", folder / "x")
    assert code == 78 and "pm.max_children must be a positive value" in errors and not (folder / "x").exists()


def test_what_needs_a_decision(folder):
    if php.FPM is None:
        pytest.skip("no php-fpm that could be running")
    other = Fpm(folder)
    try:
        port, free = other.address.split(":")[1], free_port()
        source = write(folder, f"[global]\nevents.mechanism = epoll\npid = {folder}/p\n" + POOL.format("one", port, 100000) +
                       POOL.format("two", free, 1) + POOL.format("three", f"127.0.0.1:{free_port()}", 1) + "pm.status_listen = 127.0.0.1:1\n", "m.conf")
        code, report, errors = migrate("-M", source, "-T", folder / "x")
        assert code == 0, errors
        flat = " ".join(report.split())
        for words in (f"php-fpm is running pid {other.process.pid} (php-fpm: master process", f"pool one: listen Its address is in use now, by pid",
                      "100002 workers of all pools together", "user = www-data Pools one, two, three share it", f"pool two: listen = {free} Other hosts",
                      "events.mechanism Checked, without effect", f"pid = {folder}/p Kept"):
            assert words in flat, f"{words}\n{report}"
        assert "pool three: listen = " not in report and "pool two: listen Its" not in flat
    finally:
        other.close()


def test_a_missing_php_cgi_is_named_with_its_package(folder):
    place = folder / "bin"
    place.mkdir()
    source = write(folder, POOL.format("a", free_port(), 1))
    code, report, errors = migrate("-M", source, "-T", folder / "x", env={"PATH": str(place)})
    assert code == 78 and "apt install php-cgi" in report and "php-cgi was not found in PATH" in errors
    assert (folder / "x/tqfpm.conf").exists()


def test_the_result_serves(server, folder):
    s = server(pools={"shop": {"prefix": folder, "listen": "shop.sock", "listen.owner": "www-data", "env[GREETING]": "$TEST_GREETING",
                               "security.limit_extensions": "", "php_admin_value[memory_limit]": "99M"}}, env={**os.environ, "TEST_GREETING": "hello"})
    code, _, errors = migrate("-M", s.config_path, "-T", folder / "x", env={**os.environ, "TEST_GREETING": "other"})
    assert code == 0, errors
    s.config_path = folder / "x/tqfpm.conf"
    s.start()
    s.pools["shop"]["listen"] = f"{folder}/shop.sock"
    assert s.request(s.script("a.inc", "echo getenv('GREETING'), ini_get('memory_limit');"), "shop").text == "hello99M"
