"""Print the tests that failed, by what trial or pytest said in a log: ``failed_tests.py LOG MOST``.

The exit status is 1, and what is printed goes to the standard error, if there is none or there are
more than MOST.
"""

import pathlib
import re
import sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace")
# pytest's closing lines; a reason may follow.
found = re.findall(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", text, re.M)
# trial names the tests that failed for one reason below its traceback.
# A line of - ends them; the output of another process may follow.
for part in re.split(r"^(?:=+|-+)$", text, flags=re.M)[1:]:
    if re.match(r"\n\[(?:FAIL|ERROR)\]\n", part):
        found += re.findall(r"^(pycomnet\.test\.[\w.]+)$", part, re.M)
found = list(dict.fromkeys(found))
if not found:
    sys.exit("no test that failed is named")
if len(found) > int(sys.argv[2]):
    sys.exit(f"{len(found)} tests failed; at most {sys.argv[2]} are run once more")
print("\n".join(found))
