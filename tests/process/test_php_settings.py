"""php_value, php_admin_value and what scripts can do about them."""
import os
import shutil
import time

import pytest

from server import wait_for

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
    assert ask(s, script, "error_reporting", "0") == [str(32767 & ~8), "locked", str(32767 & ~8)]
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
