"""``python -m tests.audit``: are there known vulnerabilities in what we pin? Asks OSV, by pip-audit.

Where OSV cannot be reached, one line says so and nothing fails: a build machine may have no way out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "speech/conversion/export/requirements.lock")
"""What is installed anywhere: the images' lock is a part of the first."""

ENVIRONMENT = ".venv-audit"
SERVICE = "https://api.osv.dev/v1/query"
PROBE_SECONDS = 5.0
AUDIT_SECONDS = 120.0


class Unreachable(Exception):
    """The vulnerability service did not answer. The message says why."""


def probe(url: str, seconds: float = PROBE_SECONDS) -> None:
    """Ask about one package. Raises Unreachable."""
    question = json.dumps({"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.3"}).encode()
    request = urllib.request.Request(url, question, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  (our own constant)
            json.load(answer)
    except (OSError, ValueError) as error:
        raise Unreachable(str(error)) from error


def audit(program: Path, lock: Path, seconds: float = AUDIT_SECONDS) -> list[str]:
    """One line for each known vulnerability of a lock file's packages. Raises Unreachable."""
    command = [str(program), "--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    command += ["--require-hashes", "--disable-pip", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"no answer within {seconds:g} s") from error
    except ValueError as error:
        raise Unreachable((done.stderr.strip().splitlines() or ["no answer"])[-1]) from error
    return [
        f"{lock.relative_to(ROOT)}: {package['name']} {package['version']} has {found['id']}"
        f" (fixed in {', '.join(found['fix_versions']) or 'no version yet'})"
        for package in packages
        for found in package.get("vulns", [])
    ]


def main() -> int:
    try:
        probe(SERVICE)
        # only now: an environment that could ask nobody would be made in vain
        subprocess.run(["make", "--silent", f"{ENVIRONMENT}/.installed"], cwd=ROOT, check=True)
        program = ROOT / ENVIRONMENT / "bin" / "pip-audit"
        found = [line for lock in LOCKS for line in audit(program, ROOT / lock)]
    except Unreachable as error:
        sys.stdout.write(f"audit: dependencies were not checked, {SERVICE} cannot be reached: {error}\n")
        return 0
    for line in found:
        sys.stdout.write(f"audit: {line}\n")
    if not found:
        sys.stdout.write("audit: no known vulnerabilities\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
