#!/usr/bin/env python3
"""Writes the header that tells images.cc which files to embed.

usage: embed.py OUTPUT NAME=PATH...

The digest makes the header differ whenever an image does, so that no compiler cache gives back an old one.
"""
import hashlib
import os
import sys


def main() -> int:
    lines = ["#pragma once"]
    for argument in sys.argv[2:]:
        name, path = argument.split("=", 1)
        with open(path, "rb") as image:
            digest = hashlib.sha256(image.read()).hexdigest()
        lines.append(f"// {digest}")
        lines.append(f'#define SYNFLUID_{name}_IMAGE "{os.path.abspath(path)}"')
    with open(sys.argv[1], "w") as out:
        out.write("\n".join(lines) + "\n")
    return 0


sys.exit(main())
