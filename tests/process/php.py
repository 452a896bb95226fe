"""The system's PHP, whichever it is: programs, version, folders. Tests take it from here and name no version of their own."""
import os
import re
import shutil
import subprocess
from pathlib import Path

def _run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

# Debian's /usr/bin/php-cgi is a link to that of the default version; TQFPM_TEST_PHP=8.4 takes another one that is installed.
CGI = shutil.which("php-cgi" + os.environ.get("TQFPM_TEST_PHP", ""), path=os.environ.get("PATH", "") + ":/usr/bin")
if CGI is None:
    raise SystemExit("no php-cgi: run contrib/install-deps")
FULL_VERSION = re.match(r"PHP (\d+\.\d+\.\d+)", _run(CGI, "-n", "-v"))[1]
VERSION = FULL_VERSION.rpartition(".")[0]  # "8.2"
if os.path.exists(f"/usr/bin/php-cgi{VERSION}"):
    CGI = f"/usr/bin/php-cgi{VERSION}"  # the name that php.version finds
FPM = next((path for path in (f"/usr/sbin/php-fpm{VERSION}", shutil.which("php-fpm") or "") if os.path.exists(path)), None)
FOLDER = f"/etc/php/{VERSION}/fpm"  # Debian's, with php-fpm.conf, php.ini, conf.d, pool.d
BUILD = re.search(rb"API(\d{8}),NTS\0", Path(CGI).read_bytes())[1].decode()  # "20220829"; the extension folder's name, too

def at_least(version, than=VERSION):
    """Is PHP `than` as new as `version`?"""
    return [int(x) for x in than.split(".")] >= [int(x) for x in version.split(".")]

E_ALL = 30719 if at_least("8.4") else 32767  # without E_STRICT
