"""Print how many tests passed and were skipped, by what trial and pytest said last in a log.

Each may have run more than once. Tests that failed once and then passed count by the second run.
"""

import pathlib
import re
import sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace")
trial = re.findall(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", text, re.M)
pytest = re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s", text, re.M)
if not trial or not pytest:
    sys.exit("cannot find the closing lines of trial and pytest in what they printed")
counts = {}
for line in trial:
    for name, number in re.findall(r"(\w+)=(\d+)", line):
        counts["trial " + name] = counts.get("trial " + name, 0) + int(number)
for line in pytest:
    for number, name in re.findall(r"(\d+) (\w+)", line):
        counts["pytest " + name] = counts.get("pytest " + name, 0) + int(number)
for runner, name in (("trial", "trial successes"), ("pytest", "pytest passed")):
    if not counts.get(name):
        sys.exit(runner + " passed no test: " + str(counts))
print(
    counts["trial successes"] + counts["pytest passed"],
    counts.get("trial skips", 0) + counts.get("pytest skipped", 0),
)
