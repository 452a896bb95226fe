"""Real Apache and nginx in front: every form in which they name a script, and an upload that is none."""
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest

import php
from server import free_port, wait_for
from test_scripts import SHOW, Fpm, difference

MODULES = "/usr/lib/apache2/modules"
NEEDED = ("mpm_event", "authz_core", "proxy", "proxy_fcgi", "proxy_balancer", "slotmem_shm", "lbmethod_byrequests", "dir", "mime",
          "env", "setenvif", "rewrite", "alias")

# What stands in a virtual host; @address@ is host:port of the pool.
FORMS = {
    "match": 'ProxyPassMatch "^/(.*\\.php(/.*)?)$" "fcgi://@address@@www@/$1"',
    "generic": 'ProxyFCGIBackendType GENERIC\nProxyPassMatch "^/(.*\\.php(/.*)?)$" "fcgi://@address@@www@/$1"',
    "pathinfo": 'SetEnvIf Request_URI . proxy-fcgi-pathinfo=1\nProxyPassMatch "^/(.*\\.php(/.*)?)$" "fcgi://@address@@www@/$1"',
    "unescape": 'SetEnvIf Request_URI . proxy-fcgi-pathinfo=unescape\nProxyPassMatch "^/(.*\\.php(/.*)?)$" "fcgi://@address@@www@/$1"',
    "handler": '<FilesMatch "\\.php$">\nSetHandler "proxy:fcgi://@address@"\n</FilesMatch>',
    "generic-handler": 'ProxyFCGIBackendType GENERIC\n<FilesMatch "\\.php$">\nSetHandler "proxy:fcgi://@address@/"\n</FilesMatch>',
    "all-handler": '<Directory "@www@">\nSetHandler "proxy:fcgi://@address@"\n</Directory>',
    "rewrite": 'RewriteEngine on\nRewriteRule "^/(.*\\.php(/.*)?)$" "fcgi://@address@@www@/$1" [P]',
    "balancer": '<Proxy "balancer://php@number@">\nBalancerMember "fcgi://@address@"\n</Proxy>\n'
                'ProxyPassMatch "^/(.*\\.php(/.*)?)$" "balancer://php@number@@www@/$1"',
    "balancer-handler": '<Proxy "balancer://php@number@">\nBalancerMember "fcgi://@address@"\n</Proxy>\n'
                        '<FilesMatch "\\.php$">\nSetHandler "proxy:balancer://php@number@"\n</FilesMatch>',
}
PATHS = ("/a.php", "/a.php?x=/y.php", "/a.php/", "/a.php/info", "/a.php/info%20x+y?q", "/a.php/x/b.php", "/s%20p.php", "/s%20p.php/a%20b",
         "/dir.php/b.php", "/dir.php/b.php/c", "/none.php", "/none.php/x", "/evil.jpg/x.php", "/evil.jpg%00.php", "/a.php/%C3%A4", "/dir.php/")
OWN = ("SERVER_PORT", "HTTP_HOST", "UNIQUE_ID", "REMOTE_PORT", "TQFPM_REQUEST_ID", "TQFPM_QUEUE_WAIT_US", "REQUEST_TIME",
       "REQUEST_TIME_FLOAT", "proxy-nokeepalive")


@pytest.fixture
def apache(folder):
    """A function: {name: (form, address)} -> {name: URL}."""
    missing = [m for m in NEEDED if not os.path.exists(f"{MODULES}/mod_{m}.so")]
    if missing or not os.path.exists("/usr/sbin/apache2"):
        pytest.skip(f"no Apache with {missing or 'its modules'}")
    processes = []

    def make(hosts):
        www, urls = folder / "www", {}
        conf = "".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so\n" for m in NEEDED)
        conf += f"""ServerRoot {folder}\nServerName localhost\nPidFile {folder}/a.pid\nErrorLog {folder}/a.log\nUser www-data\nGroup www-data
DefaultRuntimeDir {folder}\nTypesConfig /etc/mime.types\nMutex sem\n<Directory {www}>\nRequire all granted\n</Directory>\n"""
        for number, (name, (form, address)) in enumerate(hosts.items()):
            port = free_port()
            urls[name] = f"http://127.0.0.1:{port}"
            text = FORMS[form].replace("@address@", address).replace("@www@", str(www)).replace("@number@", str(number))
            conf += f"Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\nDocumentRoot {www}\n{text}\n</VirtualHost>\n"
        (folder / "a.conf").write_text(conf)
        processes.append(subprocess.Popen(["/usr/sbin/apache2", "-f", str(folder / "a.conf"), "-D", "FOREGROUND"],
                                          stdin=subprocess.DEVNULL))
        for url in urls.values():
            wait_for(lambda: answers(url, processes[-1]), lambda: f"Apache\n{(folder / 'a.log').read_text() if (folder / 'a.log').exists() else ''}")
        return urls

    yield make
    for each in processes:
        each.terminate()
        each.wait(20)


def answers(url, process):
    assert process.poll() is None
    return get(url + "/")[0] != 0


def get(url, data=None):
    """(status, body): 0 when nobody listens."""
    try:
        with urllib.request.urlopen(url, data, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


def told(url):
    status, text = get(url)
    try:
        values = dict(map(lambda part: bytes.fromhex(part).decode(), line.split("=")) for line in text.splitlines())
    except ValueError:
        return status, text
    return status, {name: value for name, value in values.items() if name not in OWN} or text


def fill(www):
    (www / "dir.php").mkdir()
    for name in ("a.php", "s p.php", "dir.php/b.php", "evil.jpg"):
        (www / name).write_text(SHOW)


def seen(answer):
    return [answer.get(name) for name in ("SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "PHP_SELF")]


def same_names(answer):
    status, values = answer
    if isinstance(values, dict):  # Apache has two slashes in front with some forms, of which we leave one
        values = {name: value.replace("//", "/") if name.endswith("SCRIPT_FILENAME") else re.sub(r"127.0.0.1:\d+|php\d+", "HOST", value)
                  for name, value in values.items()}
    return status, "", values


def test_apache_forms(server, folder, apache):
    s = server().start()
    fill(s.www)
    urls = apache({form: (form, s.address()) for form in FORMS})
    script = f"{s.www}/a.php"
    for form in FORMS:
        status, plain = told(urls[form] + "/a.php?x")
        odd = form in ("generic", "pathinfo", "unescape")  # Apache knows little there, with php-fpm as with us
        assert status == 200 and (odd or seen(plain) == [script, "/a.php", None, "/a.php"]), (form, plain)
        status, info = told(urls[form] + "/a.php/info")
        assert status == 200 and (odd or seen(info) == [script, "/a.php", "/info", "/a.php/info"]), (form, info)
        assert get(urls[form] + "/none.php")[0] == 404
        for path in ("/evil.jpg/x.php", "/evil.jpg%00.php", "/evil.jpg/.php"):
            status, text = told(urls[form] + path)
            assert status in (403, 404) and isinstance(text, str), (form, path)
    assert get(urls["all-handler"] + "/evil.jpg") == (403, "Access denied.\n")
    assert "has been denied (see security.limit_extensions)" in (folder / "a.log").read_text()
    assert "AH01071: Got error 'Access to the script" in (folder / "a.log").read_text()


def test_apache_tells_scripts_the_same_as_with_php_fpm(server, folder, apache):
    if php.FPM is None:
        pytest.skip("no php-fpm to compare with")
    s = server().start()
    fill(s.www)
    other = Fpm(folder)
    try:
        hosts = {}
        for form in FORMS:
            hosts[f"{form} ours"] = (form, s.address())
            hosts[f"{form} theirs"] = (form, other.address)
        urls = apache(hosts)
        differences = []
        for form in FORMS:
            for path in PATHS:
                found = difference(same_names(told(urls[f"{form} ours"] + path)), same_names(told(urls[f"{form} theirs"] + path)))
                if found:
                    differences.append(f"{form} {path}: tqfpm and php-fpm: {found}")
        assert not differences, "\n".join(differences[:10])
    finally:
        other.close()


def test_encoded_paths(server, folder, apache):
    """fastcgi.script_path_encoded = 0: what ProxyPass sends is decoded, as by PHP 8.5."""
    s = server(pools={"www": {}, "new": {"php_admin_value[fastcgi.script_path_encoded]": "0"}}).start()
    fill(s.www)
    urls = apache({"old": ("match", s.address()), "new": ("match", s.address("new"))})
    assert get(urls["old"] + "/s%20p.php")[0] == 404
    status, answer = told(urls["new"] + "/s%20p.php/a%20b")
    assert status == 200 and seen(answer)[0] == f"{s.www}/s p.php"
    assert get(urls["new"] + "/evil.jpg%00.php")[0] in (403, 404)
    assert get(urls["new"] + "/evil.jpg%2500.php")[0] in (403, 404)


@pytest.mark.parametrize("split", ["", "fastcgi_split_path_info ^(.+?\\.php)(/.*)$; fastcgi_param PATH_INFO $fastcgi_path_info;"])
def test_an_upload_through_nginx_without_try_files(server, folder, split):
    """The classic hole: nginx passes whatever ends in .php, and the file is a picture that a visitor has sent."""
    s = server().start()
    os.chmod(s.www, 0o777)
    s.script("upload.php", "move_uploaded_file($_FILES['f']['tmp_name'], __DIR__ . '/' . basename($_FILES['f']['name'])); echo 'stored';")
    s.script("a.php", "echo 'script ', $_SERVER['PATH_INFO'] ?? '-';")
    (folder / "nx").mkdir()
    port = free_port()
    (folder / "nx.conf").write_text(f"""user www-data; daemon off; pid {folder}/nx.pid; error_log {folder}/nx.log; events {{}}
        http {{ access_log off; client_body_temp_path {folder}/nx/b; fastcgi_temp_path {folder}/nx/f; server {{ listen 127.0.0.1:{port}; root {s.www};
        location ~ \\.php(/|$) {{ include /etc/nginx/fastcgi_params; {split} fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_pass {s.address()}; }} }} }}""")
    process = subprocess.Popen(["/usr/sbin/nginx", "-c", str(folder / "nx.conf")], stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(url, process), "nginx")
        body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="evil.jpg"\r\n\r\nGIF89a<?php echo 6 * 7, "ran";\r\n--b--\r\n'
        request = urllib.request.Request(url + "/upload.php", body, {"Content-Type": "multipart/form-data; boundary=b"})
        assert get(request) == (200, "stored")
        assert b"42ran" not in (s.www / "evil.jpg").read_bytes() and (s.www / "evil.jpg").exists()
        for path in ("/evil.jpg/x.php", "/evil.jpg/.php", "/evil.jpg%00.php", "/evil.jpg/x.php/y.php", "/evil.jpg%0a.php", "/evil.jpg//a.php",
                     "/evil.jpg/x.php/"):
            status, text = get(url + path)
            assert status in (400, 403, 404) and "ran" not in text, path
        assert get(url + "/a.php/info") == (200, "script /info" if split else "script -")
        assert get(url + "/a.php%0a/info")[0] == 404
        assert s.status()["accepted conn"] > 5 and "SIGSEGV" not in s.log
    finally:
        process.terminate()
        process.wait(20)
