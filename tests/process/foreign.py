"""php-cgi of other versions than the system's, from the folders that tests/process/foreign-php makes."""
import os
from pathlib import Path

import pytest

import php

ROOT = Path(os.environ.get("TQFPM_TEST_PHPS", "/var/cache/tqfpm-php"))
VERSIONS = [php.VERSION, *(v for v in ("7.4", "8.4") if v != php.VERSION)]  # the system's and both ends of what foreign-php makes


def settings(version, folder):
    """Pool directives for this PHP; the test is skipped where it is not there."""
    if version == php.VERSION:
        return {"php.version": version}
    root = ROOT / version
    binary = root / f"usr/bin/php-cgi{version}"
    if not binary.exists():
        pytest.skip(f"no PHP {version} in {root}: tests/process/foreign-php makes it")
    libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    loader = next(path for path in sorted((root / "lib/x86_64-linux-gnu").glob("ld-*.so*")) if not path.is_symlink())
    wrapper = folder / f"php-cgi{version}"
    # With its own loader and libraries: no chroot, which would need root.
    wrapper.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {binary} "$@"\n')
    wrapper.chmod(0o755)
    extensions, = (root / "usr/lib/php").glob("20*")
    return {"php.binary": wrapper, "php_admin_value[extension_dir]": extensions, "php_admin_value[zend_extension]": extensions / "opcache.so"}
