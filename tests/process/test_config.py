"""The configuration as an operator meets it: what is refused and in which words, what -t and -tt say, php-fpm's own files."""
import os
import re
import shutil
import socket
import subprocess

import pytest

import php
from server import ROOT, TQFPM, free_port

GOOD = "[www]\nuser = www-data\nlisten = 127.0.0.1:9000\npm = static\npm.max_children = 1\n"


def tqfpm(*arguments, cwd=None, env=None):
    done = subprocess.run([TQFPM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60, cwd=cwd, env=env)
    return done.returncode, done.stdout


def told(output):
    """Its messages without the time."""
    return [re.sub(r"^\[[^]]*\] ", "", line) for line in output.splitlines() if line]


BAD = {
    "mistyped directive": ("pm.max_childen = 3\n", "ERROR: {f}:6: [pool www] unknown directive 'pm.max_childen', did you mean 'pm.max_children'?"),
    "wrong section": ("log_level = debug\n", "ERROR: {f}:6: [pool www] 'log_level' belongs into [global]"),
    "no number": ("pm.max_requests = many\n", "ERROR: {f}:6: [pool www] pm.max_requests: 'many' is not a number"),
    "no time": ("request_terminate_timeout = 5 bars\n",
                "ERROR: {f}:6: [pool www] request_terminate_timeout: '5 bars' is no time: a number with ms, s, m, h or d"),
    "no boolean": ("clear_env = perhaps\n", "ERROR: {f}:6: [pool www] clear_env: 'perhaps' is neither yes nor no"),
    "no octal number": ("listen.mode = 0999\n", "ERROR: {f}:6: [pool www] listen.mode: '0999' is no octal number of 0000 to 0777"),
    "unknown user": ("user = nobody-at-all\n", "ERROR: [pool www] cannot get uid for user 'nobody-at-all'"),
    "no php-cgi": ("php.binary = /nowhere/php-cgi\n", "ERROR: {f}:6: [pool www] php.binary: /nowhere/php-cgi is not there or cannot be executed"),
    "not a php-cgi": ("php.binary = /bin/true\n",
                      "ERROR: {f}:6: [pool www] php.binary: /bin/true is no php-cgi: its -v says ''; name a php-cgi binary (Debian: package php-cgi)"),
    "no such version": ("php.version = 5.3\n",
                        "ERROR: {f}:6: [pool www] php.version: there is no php-cgi5.3 in PATH; install it (Debian: package php5.3-cgi) or set php.binary"),
    "pool as root": ("user = root\n",
                     "ERROR: {f}:6: [pool www] please specify user and group other than root, or start with --allow-to-run-as-root"),
    "open quote": ("env[A] = \"x\n", "ERROR: {f}:6: [pool www] the value \"x has no closing quote"),
    "bad access.format": ("access.format = %y\n", "ERROR: {f}:6: [pool www] wrong format for access.format '%y': Invalid token in the access.format (%y)"),
    "no such folder": ("chdir = /nowhere\n", "ERROR: {f}:6: [pool www] the chdir path '/nowhere' does not exist or is not a directory"),
    "bad status path": ("pm.status_path = status\n", "ERROR: {f}:6: [pool www] the status path 'status' must start with a '/'"),
    "missing include": ("include = /nowhere/x.conf\n", "ERROR: {f}:6: cannot read the configuration file /nowhere/x.conf: No such file or directory"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configurations_in_their_exact_words(folder, case):
    line, message = BAD[case]
    path = folder / "a.conf"
    path.write_text(GOOD + line)
    code, output = tqfpm("-t", "-y", path)
    assert code == 78
    assert told(output) == [message.format(f=path), "ERROR: FPM initialization failed"]
    assert told(tqfpm("-F", "-y", path)[1]) == told(output)  # a start says the same


def test_all_errors_of_all_files_in_one_run(folder):
    (folder / "a.conf").write_text(f"[global]\nlog_levl = x\ninclude = {folder}/pools/*.conf\n")
    (folder / "pools").mkdir()
    (folder / "pools" / "2.conf").write_text("[b]\nlisten = x:y\n")
    (folder / "pools" / "1.conf").write_text("[a]\nuser = gone-user\nlisten = 9001\npm = static\npm.max_children = 0\n")
    code, output = tqfpm("-t", "-y", folder / "a.conf")
    assert code == 78
    text = "\n".join(told(output))
    for expected in (f"{folder}/a.conf:2: unknown directive 'log_levl', did you mean 'log_level'?",
                     "ERROR: [pool a] cannot get uid for user 'gone-user'",
                     f"{folder}/pools/1.conf:5: [pool a] pm.max_children must be a positive value",
                     "ERROR: invalid port value 'y'", f"{folder}/pools/2.conf:2: [pool b] listen = x:y cannot be used",
                     f"{folder}/pools/2.conf:1: [pool b] the process manager is missing"):
        assert expected in text, text


def test_unreadable_and_missing_files(folder):
    code, output = tqfpm("-t", "-y", folder / "none.conf")
    assert code == 78
    assert told(output)[0] == (f"ERROR: {folder}/none.conf: cannot read the configuration file {folder}/none.conf: "
                               "No such file or directory; name another one with -y")


def test_test_prints_what_loads_again_to_the_same(folder):
    path, again = folder / "a.conf", folder / "b.conf"
    path.write_text("[global]\nlog_limit = 4096\n" + GOOD + "env[X] = 'a;\"b'\nphp_value[memory_limit] = 64M\naccess.suppress_path[] = /x\n")
    first = subprocess.run([TQFPM, "-tt", "-y", path], capture_output=True, text=True, check=True).stdout
    again.write_text(first)
    assert subprocess.run([TQFPM, "-tt", "-y", again], capture_output=True, text=True, check=True).stdout == first
    assert 'env[X] = "a;\\"b"' in first and "log_limit = 4096" in first
    assert tqfpm("-t", "-y", path)[1].count(f"configuration file {path} test is successful") == 1


def test_debians_untouched_php_fpm_configuration():
    code, output = tqfpm("-t", "-y", f"{php.FOLDER}/php-fpm.conf")
    assert code == 0, output
    assert told(output) == [f"NOTICE: configuration file {php.FOLDER}/php-fpm.conf test is successful"]


def test_the_php_of_a_debian_folder_is_taken(folder):
    dump = subprocess.run([TQFPM, "-tt", "-y", f"{php.FOLDER}/php-fpm.conf"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf'^php.binary = ".*/php-cgi{php.VERSION}"$', dump, re.M)
    assert f'php.ini = "{php.FOLDER}"' in dump


@pytest.mark.parametrize("spawn", ["fork", "exec"])
def test_a_folder_with_php_ini_and_conf_d(server, folder, spawn):
    """As Debian's /etc/php/VERSION/fpm: php.ini and conf.d of that folder count, and what a script starts knows nothing of it."""
    ini = folder / "ini"
    (ini / "conf.d").mkdir(parents=True)
    (ini / "php.ini").write_text("memory_limit = 77M\n")
    (ini / "conf.d" / "a.ini").write_text("arg_separator.output = '<>'\n")
    s = server(pools={"www": {"php.ini": ini, "php.spawn": spawn}}).start()
    code = "echo ini_get('memory_limit'), ini_get('arg_separator.output'), '|', shell_exec('echo $PHP_INI_SCAN_DIR$TQFPM_OWN_SCAN_DIR');"
    limit, seen = s.request(s.script("a.php", code)).text.strip().split("|")
    assert limit == "77M<>"
    assert seen == ("" if spawn == "fork" else f"{ini}/conf.d")  # without the library nobody removes it


def test_a_port_in_use_says_who_holds_it(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "a.conf").write_text(GOOD.replace("9000", str(port)))
        code, output = tqfpm("-F", "-O", "-y", folder / "a.conf")
    assert code == 78
    assert told(output)[:2] == [f"ERROR: unable to bind listening socket for address '127.0.0.1:{port}': Address already in use (98)",
                                "ERROR: [pool www] stop what listens there or change listen"], output


def test_a_template_that_will_not_start_means_exec_mode_and_a_notice(server, folder):
    """A php-cgi that ignores LD_PRELOAD, as a static or setuid one does."""
    wrapper = folder / "php-cgi"
    wrapper.write_text(f"#!/bin/sh\nunset LD_PRELOAD\nexec {php.CGI} \"$@\"\n")
    wrapper.chmod(0o755)
    s = server(pools={"www": {"php.binary": wrapper}}).start()
    s.wait_log(r"NOTICE: .*\[pool www\] the template does not start \(php-cgi does not load libtqfpm-template.so\): "
               "falling back to php.spawn = exec")
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"


def test_a_wrapper_script_around_php_cgi(server, folder):
    """The library waits for the php-cgi that the script starts."""
    wrapper = folder / "php-cgi"
    wrapper.write_text(f"#!/bin/bash\nexport WRAPPED=$(echo yes)\n/bin/true\nexec {php.CGI} \"$@\"\n")
    wrapper.chmod(0o755)
    s = server(pools={"www": {"php.binary": wrapper}}).start()
    assert len(s.templates()) == 1
    assert s.request(s.script("a.php", "echo getenv('WRAPPED'), getenv('LD_PRELOAD');")).text == "yes"


def test_a_php_that_cannot_start_at_all(server, folder):
    wrapper = folder / "php-cgi"
    wrapper.write_text(f"#!/bin/sh\n[ \"$2\" = -v ] && exec {php.CGI} -n -v\necho no licence >&2\nexit 9\n")
    wrapper.chmod(0o755)
    s = server(pools={"www": {"php.binary": wrapper}})
    code, output = s.run()
    assert code == 78
    text = "\n".join(told(output))
    assert "exited with code 9" in text and "FPM initialization failed" in text, text
    assert "php-cgi said: no licence" in s.log


def test_command_line_defines_reach_php(server):
    s = server(options=["-F", "-d", "memory_limit=77M", "-d", "error_prepend_string=<x>"]).start()
    assert s.request(s.script("a.php", "echo ini_get('memory_limit'), ini_get('error_prepend_string');")).text == "77M<x>"


def test_installed_below_a_prefix(folder, server):
    """make install with prefix= and DESTDIR=, without configure; the sample pool serves."""
    if TQFPM != str(ROOT / "tqfpm"):
        pytest.skip("the sanitized build is not what is installed")
    prefix = folder / "usr"
    copy = folder / "src"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "san-*", "demo", "tidy"))
    subprocess.run(["make", "-s", "install", f"prefix={prefix}"], cwd=copy, check=True, capture_output=True, text=True)
    installed = [str(p.relative_to(prefix)) for p in prefix.rglob("*") if p.is_file()]
    for name in ("sbin/tqfpm", "lib/tqfpm/libtqfpm-template.so", "etc/tqfpm.conf.default", "etc/tqfpm.d/www.conf.default",
                 "share/man/man8/tqfpm.8", "share/man/man5/tqfpm.conf.5", "share/doc/tqfpm/README.md", "share/doc/tqfpm/php-fpm-directives.md"):
        assert name in installed
    shutil.rmtree(copy)
    shutil.copy(prefix / "etc/tqfpm.conf.default", prefix / "etc/tqfpm.conf")
    pool = (prefix / "etc/tqfpm.d/www.conf.default").read_text()
    port = free_port()
    (prefix / "etc/tqfpm.d/www.conf").write_text(pool.replace("127.0.0.1:9000", f"127.0.0.1:{port}"))
    (prefix / "var/log").mkdir(parents=True)
    s = server(binary=str(prefix / "sbin/tqfpm"))
    s.log_path = prefix / "var/log/tqfpm.log"
    s.command = lambda *more: [s.binary, "-F", *more]
    s.start()
    s.pools["www"]["listen"] = f"127.0.0.1:{port}"
    assert s.request(s.script("a.php", "echo 'ok';")).text == "ok"
    assert len(s.templates()) == 1
