"""Compile every .pyx of the three rooms; everything else stands in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
ARGS = ["-O3", "-fno-strict-aliasing", "-Wno-unused-function"]
if os.environ.get("NATIVE"):
    ARGS.append("-march=native")

extensions = [
    Extension(
        str(path.relative_to(ROOT).with_suffix("")).replace(os.sep, "."),
        [str(path.relative_to(ROOT))],
        extra_compile_args=ARGS,
        depends=[
            str(p.relative_to(ROOT))
            for p in sorted(ROOT.glob("*/**/*.pxd"))
            if p.parts[len(ROOT.parts)] in {"ingest", "query", "storage"}
        ],
    )
    for room in ("ingest", "query", "storage")
    for path in sorted((ROOT / room).rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": True,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "freethreading_compatible": False,
        },
    )
)
