#!/usr/bin/env python3
"""Every test that docs/xenstore-conformance.md names is in a file of this folder or of the daemon's tests, and every file
of this folder is named there.

Prints what is wrong, one line each; exits with 1 if anything is.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parents[2] / "docs" / "xenstore-conformance.md"


def main():
    document = DOCUMENT.read_text(encoding="utf-8")
    sources = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*_test.cc")}
    daemon = [path.read_text(encoding="utf-8") for path in (HERE.parent / "store_daemon").glob("*_test.cc")]
    texts = "\n".join([*sources.values(), *daemon])
    defined = set(re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", texts, re.M))
    named = set(re.findall(r"`(\w+)\.([A-Z]\w+)`", document))
    wrong = [f"no such test: {suite}.{test}" for suite, test in sorted(named - defined)]
    wrong += [f"not in the document: {name}" for name in sorted(sources) if name not in document]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(named)} tests named, {len(wrong)} wrong")
    return 1 if wrong or not named else 0


if __name__ == "__main__":
    sys.exit(main())
