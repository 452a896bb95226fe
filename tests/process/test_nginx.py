"""Through a real nginx, as a user comes: pages, forms, and files too large for any buffer."""
import hashlib
import os
import subprocess
import urllib.request

import pytest

from server import wait_for


def get(url, data=None):
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.status, answer.read()


@pytest.fixture(params=["closing", "keep-alive"])
def site(request, server, nginx, folder):
    s = server(pools={"www": {"pm.max_children": 4, "listen": folder / "www.sock", "listen.owner": "www-data",
                              "listen.mode": "0600", "php_admin_value[post_max_size]": "64M",
                              "php_admin_value[memory_limit]": "256M"}}).start()
    n = nginx(s.address(), keep=request.param == "keep-alive", extra="fastcgi_request_buffering off; fastcgi_buffering off;")
    return s, n


def test_pages(site):
    s, n = site
    s.script("hello.php", "echo 'hello ', $_GET['n'] ?? '', $_POST['name'] ?? '';")
    assert get(n.url("/hello.php?n=1")) == (200, b"hello 1")
    assert get(n.url("/hello.php"), b"name=you") == (200, b"hello you")
    s.script("info.php", "phpinfo();")
    page = get(n.url("/info.php"))[1].decode()
    assert "Server API" in page and "CGI/FastCGI" in page
    with pytest.raises(urllib.error.HTTPError) as missing:
        get(n.url("/none.php"))
    assert missing.value.code == 404


def test_upload_of_20_mb(site):
    s, n = site
    s.script("sum.php", "echo hash_file('sha256', 'php://input'), ' ', $_SERVER['CONTENT_LENGTH'];")
    data = os.urandom(20 * 1024 * 1024)
    body = get(n.url("/sum.php"), data)[1].decode()
    assert body == f"{hashlib.sha256(data).hexdigest()} {len(data)}"


def test_chunked_upload(site):
    s, n = site
    s.script("sum.php", "echo hash_file('sha256', 'php://input');")
    data = os.urandom(3 * 1024 * 1024)
    done = subprocess.run(["curl", "-sS", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", "@-", n.url("/sum.php")],
                          input=data, capture_output=True, timeout=60, check=True)
    answer = done.stdout.decode()
    # Unbuffered, nginx knows no CONTENT_LENGTH: then it is the whole body or an honest 411, never a part of it.
    assert answer == hashlib.sha256(data).hexdigest() or "411" in answer, (answer[:200], done.stderr)


def test_download_of_200_mb(site):
    s, n = site
    s.script("big.php", "mt_srand(42); $block = ''; for ($i = 0; $i < 65536; $i++) $block .= chr(mt_rand(0, 255));"
                        "header('X-Sum: ' . hash('sha256', str_repeat($block, 16))); while (ob_get_level()) ob_end_clean();"
                        "for ($i = 0; $i < 3200; $i++) echo $block;")
    digest, first, size = hashlib.sha256(), hashlib.sha256(), 0
    with urllib.request.urlopen(n.url("/big.php"), timeout=120) as answer:
        while block := answer.read(1 << 20):
            if size < 1 << 20:
                first.update(block[:(1 << 20) - size])
                seed = block[:65536] if size == 0 else seed
            digest.update(block)
            size += len(block)
        claimed = answer.headers["X-Sum"]
    assert size == 3200 * 65536
    assert first.hexdigest() == claimed
    assert digest.hexdigest() == hashlib.sha256(seed * 3200).hexdigest()


def test_a_multipart_upload(site, folder):
    s, n = site
    s.script("form.php", "echo $_POST['field'], ' ', $_FILES['file']['name'], ' ', hash_file('sha256', $_FILES['file']['tmp_name']);")
    data = os.urandom(1_500_000)
    (folder / "file.bin").write_bytes(data)
    done = subprocess.run(["curl", "-sS", "-F", "field=value", "-F", f"file=@{folder}/file.bin", n.url("/form.php")],
                          capture_output=True, timeout=60, check=True, text=True)
    assert done.stdout == f"value file.bin {hashlib.sha256(data).hexdigest()}"


def test_wrk_through_nginx_has_no_error(site):
    s, n = site
    s.script("hello.php", "echo 'hello';")
    report = subprocess.run(["wrk", "-t1", "-c48", "-d2", n.url("/hello.php")], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "Requests/sec" in report and "Non-2xx" not in report and "Socket errors" not in report, report
    wait_for(lambda: s.status()["active processes"] == 0)
