"""Coverage-guided fuzzing, by atheris (`pip install 'pathcast[fuzz]'`), of what each `fuzz_*.py` of the tests checks.

    python tests/stream/fuzz/fuzz_clean.py 300      for so many seconds; fuzz_record and tests/model/fuzz_state alike
    python tests/stream/fuzz/fuzz_clean.py 300 --keep

A check takes any bytes and raises where a promise is broken. What is found lies in the working directory as crash-*,
and again as a regression test of its own once it is understood. The corpus under `corpus/` is what reached the most
code so far, a few bytes each: the ordinary tests replay it, and a run starts from it. `--keep` puts what reached more
into it, minimised.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Check = Callable[[bytes], None]
MAX_BYTES = 4_096  # of an input: longer ones reach nothing more, and are slow
SLOW_S = 5  # of one input: a finding


def seeds(corpus: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(corpus.iterdir())]


def run(load: Callable[[], Check], corpus: Path, watched: Sequence[str], tokens: Iterable[bytes] = (b"\0",)) -> None:
    """Fuzz what `load` gives, as the command line says. Coverage is that of the `watched`: "module", with its package,
    or "module:function", where some of them are compiled and cannot be watched.
    """
    seconds, keep = int(sys.argv[1]), "--keep" in sys.argv
    with tempfile.TemporaryDirectory() as made:
        found, merged, words = Path(made, "found"), Path(made, "merged"), Path(made, "words")
        found.mkdir()
        merged.mkdir()
        words.write_text("".join(f'"{_escaped(token)}"\n' for token in tokens))
        fuzzer = _fuzzer(Path(made), load, watched, corpus)
        options = [f"-max_len={MAX_BYTES}", f"-timeout={SLOW_S}", f"-dict={words}"]
        time = [f"-max_total_time={seconds}", "-print_final_stats=1"]
        code = subprocess.run([fuzzer, *time, *options, found, corpus], check=False).returncode
        if keep and not code:
            subprocess.run([fuzzer, "-merge=1", *options, merged, corpus, found], check=True)
            _replace(corpus, merged)
    sys.exit(code)


def _fuzzer(folder: Path, load: Callable[[], Check], watched: Sequence[str], corpus: Path) -> Path:
    """A program of its own: libFuzzer ends its process, and starts itself again to merge. It checks the corpus first,
    so that the time to compile is not taken for the slowness of an input."""
    modules, functions = (
        [name for name in watched if ":" not in name],
        [name.split(":") for name in watched if ":" in name],
    )
    program, fuzzer = folder / "program.py", folder / "fuzzer"
    program.write_text(
        "import logging, operator, pathlib, sys, atheris\n"
        "logging.disable()\n"
        f"sys.path[:0] = {sys.path!r}\n"
        f"with atheris.instrument_imports(include={modules or ['nothing']!r}):\n"
        f"    import {Path(sys.argv[0]).stem} as target\n"
        f"    check = target.{load.__name__}()\n"
        f"for module, name in {functions!r}:\n"
        "    atheris.instrument_func(operator.attrgetter(name)(sys.modules[module]))\n"
        f"for path in sorted(pathlib.Path({str(corpus)!r}).iterdir()):\n"
        "    check(path.read_bytes())\n"
        f"atheris.Setup([{str(fuzzer)!r}, *sys.argv[1:]], check)\n"
        "atheris.Fuzz()\n"
    )
    fuzzer.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    fuzzer.chmod(0o755)
    return fuzzer


def _replace(corpus: Path, merged: Path) -> None:
    for path in corpus.iterdir():
        path.unlink()
    for path in merged.iterdir():
        Path(corpus, path.name[:16]).write_bytes(path.read_bytes())


def _escaped(token: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\x{b:02x}" for b in token)
