"""The snippets of contrib/ in real web servers: only addresses and folders are changed."""
import hashlib
import os
import re
import subprocess
import urllib.request

import pytest

from server import ROOT, free_port, wait_for

MODULES = "/usr/lib/apache2/modules"


def snippet(name, server, folder, port):
    text = (ROOT / "contrib" / name).read_text()
    text = text.replace("/run/tqfpm/www.sock", server.address()).replace("/var/www/html", str(folder / "www"))
    return re.sub(r"listen 80;|\*:80", lambda m: m[0].replace("80", f"{port}"), text)


def nginx(server, folder, port):
    (folder / "n.conf").write_text(f"""user www-data; daemon off; pid {folder}/n.pid; error_log {folder}/n.log; events {{}}
        http {{ access_log off; client_body_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp; client_max_body_size 10m;
        {snippet("nginx.conf", server, folder, port).replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")} }}""")
    return ["/usr/sbin/nginx", "-c", str(folder / "n.conf")]


def apache(server, folder, port):
    modules = "".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so\n" for m in
                      ("mpm_event", "authz_core", "unixd", "proxy", "proxy_fcgi", "dir", "mime") if os.path.exists(f"{MODULES}/mod_{m}.so"))
    (folder / "a.conf").write_text(f"""ServerRoot {folder}\nServerName localhost\n{modules}Listen 127.0.0.1:{port}\nPidFile {folder}/a.pid
ErrorLog {folder}/a.log\nUser www-data\nGroup www-data\nTypesConfig /etc/mime.types\nMutex sem
<Directory {folder}/www>\nRequire all granted\n</Directory>\n{snippet("apache.conf", server, folder, port)}""")
    return ["/usr/sbin/apache2", "-f", str(folder / "a.conf"), "-D", "FOREGROUND"]


def lighttpd(server, folder, port):
    (folder / "l.conf").write_text(f"""server.document-root = "{folder}/www"\nserver.port = {port}\nserver.bind = "127.0.0.1"
server.username = "www-data"\nserver.errorlog = "{folder}/tmp/l.log"\nserver.upload-dirs = ( "{folder}/tmp" )
{snippet("lighttpd.conf", server, folder, port)}""")
    return ["/usr/sbin/lighttpd", "-D", "-f", str(folder / "l.conf")]


@pytest.mark.parametrize("web", [nginx, apache, lighttpd])
def test_snippet(server, folder, web):
    s = server(pools={"www": {"listen": folder / "www.sock", "listen.owner": "www-data"}}).start()
    s.script("a.php", "echo $_GET['n'] ?? '', '|', hash('sha256', file_get_contents('php://input')), '|', $_SERVER['SCRIPT_FILENAME'];")
    (folder / "www" / "evil.txt").write_text("<?php echo 6 * 7, 'ran';")
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o777)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = open(folder / "web.log", "wb")
    process = subprocess.Popen(web(s, folder, port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(path, data=None):
        try:
            with urllib.request.urlopen(url + path, data, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except urllib.error.URLError:
            assert process.poll() is None, (folder / "web.log").read_text()
            return 0, ""

    try:
        wait_for(lambda: get("/a.php")[0] != 0, "the web server")
        body = os.urandom(2_000_000)
        for i in range(20):
            code, text = get(f"/a.php?n={i}", body if i == 3 else None)
            assert code == 200, (folder / "web.log").read_text() + "".join(p.read_text() for p in folder.rglob("?.log"))
            n, digest, script = text.split("|")
            assert (n, digest) == (str(i), hashlib.sha256(body if i == 3 else b"").hexdigest())
            assert script == f"{folder}/www/a.php"
        assert get("/none.php")[0] == 404
        assert "42ran" not in get("/evil.txt/x.php")[1]
    finally:
        process.terminate()
        process.wait(20)
