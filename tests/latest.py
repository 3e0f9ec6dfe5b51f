"""Runs the suite under constraints-latest.txt: the newest sentence-transformers and what it needs, no PyLate.

    python tests/latest.py [--venv FOLDER] [-- PYTEST ARGUMENTS]

Makes the environment where there is none, installs what constraints-latest.txt pins, and runs pytest there.
Its last lines say how many tests passed, failed and were skipped, and why each of these was.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-latest", help="folder of the environment")
    parser.add_argument("arguments", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    python = options.venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", options.venv], check=True)
    # The file names every package: without resolving, only fetching takes time. setuptools, which builds the
    # package, is one of them.
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "-r", ROOT / "constraints-latest.txt"], check=True)
    subprocess.run([*install, "--no-build-isolation", "-e", ROOT], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    newest = "torch", "transformers", "sentence-transformers"
    shown = [f"{name} {{version('{name}')}}" for name in newest]
    subprocess.run(
        [python, "-c", f'from importlib.metadata import version; print(f"{", ".join(shown)}")'], check=True
    )
    return subprocess.run([python, "-m", "pytest", "-q", "-rfEs", *options.arguments], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
