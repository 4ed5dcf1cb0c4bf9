"""Write the README's Python examples to example1.py, example2.py ... in a directory.

python .ci/readme_examples.py README.rst DIRECTORY
"""

import pathlib
import re
import sys
import textwrap

readme, directory = map(pathlib.Path, sys.argv[1:])
blocks = re.findall(
    r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", readme.read_text(encoding="utf-8"), re.M
)
if len(blocks) < 2:
    sys.exit("README.rst has lost its examples")
for number, block in enumerate(blocks, 1):
    (directory / f"example{number}.py").write_text(textwrap.dedent(block), encoding="utf-8")
