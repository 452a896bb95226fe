"""Whatever settings and folder names say, a real PHP reads back what is meant, and nothing else."""
import json
import random

import pytest

PIECES = ["'", '"', "\\", "\n", "\r", "\t", ";", "#", "=", "$", "${HOME}", "${", "}", "[PHP]\n", "]", "[", "&", "|", "^", "~", "!", "(", ")",
          " ", "extension=y", "x]\n[PHP]\nextension=y\n", "E_ALL", "NULL", "on", "no", "none", "\x01", "\x1b", "\x7f", "%00", "é", "A",
          "1", "0x1f", "1e5", "-1", ".5", "?", ",", "`", "*", "/", "a b", "'\"'", "\\'", "\\\"", "\\n", "\\$"]
# What PHP itself makes something else of, as it does in php.ini: constants, and words for true and false.
EVALUATED = {"NULL", "NONE", "ON", "YES", "TRUE", "NO", "OFF", "FALSE"}


def random_values(count):
    chance = random.Random(7)
    values = {}
    for number in range(count):
        value = "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 9)))
        if chance.random() < 0.2:  # what looks like an expression
            value = "".join(chance.choice("A1_ &|^~") for _ in range(chance.randint(1, 9)))
        values[f"tqfpm.test_{number}"] = value
    return values


def is_evaluated(value):
    """Does the value stand for something else in php.ini, or has it operators that PHP computes with?"""
    words = value.replace("&", " ").replace("|", " ").replace("^", " ").replace("~", " ").split()
    plain = all(c.isdigit() or c == "_" or "A" <= c <= "Z" for word in words for c in word)
    return plain and bool(words) and (value in EVALUATED or "E_ALL" in words or any(c in value for c in "&|^"))


def written(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


SHOW = """$all = []; foreach (range(0, (int)$_GET['count'] - 1) as $i) $all[] = bin2hex((string)get_cfg_var('tqfpm.test_' . $i));
echo json_encode(['values' => $all, 'limit' => ini_get('memory_limit'), 'extension' => get_cfg_var('extension')]);"""


def show(server, count, **how):
    script = server.script("show.php", SHOW)
    return json.loads(server.request(script, query=f"count={count}", **how).text)


def differing(values, shown):
    pairs = zip(values.values(), (bytes.fromhex(each).decode() for each in shown))
    return [(sent, got) for sent, got in pairs if sent != got and not is_evaluated(sent)]


@pytest.mark.parametrize("kind", ["php_value", "php_admin_value"])
def test_every_value_comes_back(server, kind):
    values = random_values(500)
    pool = {f"{kind}[{name}]": written(value) for name, value in values.items()}
    s = server(pools={"www": {**pool, "php_admin_value[memory_limit]": "77M"}}).start()
    shown = show(s, len(values))
    assert differing(values, shown["values"]) == []
    # What comes behind them is read, and nothing has come to it.
    assert shown["limit"] == "77M" and shown["extension"] is False


@pytest.mark.parametrize("values", ["on=1", "x = A |", "x = NULL & 1", "null = 1\ny = 2", 'x = "A & & B"', "x = ~A"])
def test_no_text_of_a_web_server_ends_the_reading(server, values):
    """A syntax error would lose the pool's own settings, which come behind it."""
    s = server(pools={"www": {"php_admin_value[memory_limit]": "77M", "security.web_php_values": "user"}}).start()
    assert show(s, 1, extra={"PHP_VALUE": values})["limit"] == "77M"


@pytest.mark.parametrize("name", ["x]\n[PHP]\nextension=y", "x]\nmemory_limit=1M\n[y", "a'b", "${HOME}", "lost+found", "a b"])
def test_folder_names_are_no_settings(server, folder, name):
    """Who may make folders in a chroot writes no settings; scripts in them have those of the pool."""
    jail = folder / "jail"
    (jail / name).mkdir(parents=True)
    (jail / "old").mkdir()
    for place in (name, "old"):
        (jail / place / "show.php").write_text("<?php echo ini_get('memory_limit'), ini_set('memory_limit', '1G') === false ? 'locked' : '';")
    s = server(pools={"www": {"chroot": str(jail), "chdir": "/old", "php_admin_value[memory_limit]": "96M"}}).start()
    for place in (name, "old"):
        assert s.request(f"/{place}/show.php").text == "96Mlocked", place
    assert "extension" not in s.log and "syntax error" not in s.log


def test_many_folders(server, folder):
    """More than a command line could take."""
    jail = folder / "jail"
    for number in range(3000):
        (jail / f"folder-{number:04}").mkdir(parents=True)
    for place in ("folder-0000", "folder-2999"):
        (jail / place / "show.php").write_text("<?php echo ini_get('memory_limit');")
    pool = {f"php_admin_value[tqfpm.long_{i}]": "x" * 1000 for i in range(10)}
    s = server(pools={"www": {**pool, "chroot": str(jail), "chdir": "/", "php_admin_value[memory_limit]": "96M"}}).start()
    for place in ("folder-0000", "folder-2999"):
        assert s.request(f"/{place}/show.php").text == "96M"
