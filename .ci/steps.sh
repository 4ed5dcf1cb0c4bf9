# What .ci/run is made of: steps with names and a time limit, copies of the checkout, the README's
# commands, and the count of tests. Sourced, not run.

step_limit=1500 # seconds; a step takes less than that, so this only ends what hangs
again_limit=3 # tests of a step that may fail once
done_steps=()
unsteady=()
current="setting up"
passed=0
skipped=0
lane= # the function whose steps this is, of several that run at the same time

# finish: what the script prints at its end, whatever the end is.
finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP # a second one would leave what is not removed yet
    end_children
    rm -rf "$work" || echo "$work can't be removed"
    echo
    echo "== summary"
    if ((${#done_steps[@]})); then
        printf 'ok      %s\n' "${done_steps[@]}"
    fi
    if ((${#unsteady[@]})); then
        printf 'UNSTEADY: failed, and passed when run once more alone: %s\n' "${unsteady[@]}"
    fi
    if ((status)); then
        echo "FAILED  $current (exit status $status)"
        exit 1
    fi
    echo "$passed passed, 0 failed, $skipped skipped"
}

# end_children: end the processes that this one has started, and wait for their end. A step's are in
# the process group of its `timeout`, which passes the signal on, and kills what is still there later.
end_children() {
    local children
    children=$(jobs -rp)
    if [ -n "$children" ]; then
        kill $children 2>/dev/null || true
    fi
    wait || true
}

# step NAME DIRECTORY COMMAND: run the shell command there, in a bash of its own with the same
# options, under the time limit; what it prints is also kept in $log. It goes through a file, as a
# pipe would stay open, and this script wait, for as long as a process that was left behind lives.
step() {
    local started=$SECONDS
    run_step "$@"
    done_steps+=("$1 ($((SECONDS - started)) s)")
}

# test_step NAME DIRECTORY COMMAND PREFIX: a step that runs tests. At most $again_limit that fail,
# as a machine stood still for too long, are run once more, alone. PREFIX is a command that is given
# their shell command. They are named in the summary: each is a fault to be mended.
test_step() {
    local tests status=0 started=$SECONDS
    run_step "$1" "$2" "$3" || status=$?
    local first=$log.first
    cp "$log" "$first"
    : >"$log"
    if ((status == 1)); then
        tests=$(python3 "$root/.ci/failed_tests.py" "$first" "$again_limit") || return 1
        run_step "$1: once more, alone" "$2" "$4 $(printf %q "$(again_command "$tests")")"
        mapfile -t -O "${#unsteady[@]}" unsteady <<<"$tests"
    elif ((status)); then
        return "$status"
    fi
    cat "$first" >>"$log"
    done_steps+=("$1 ($((SECONDS - started)) s)")
}

# again_command TESTS: the shell command that runs these, one on a line, of trial's or pytest's.
again_command() {
    local test
    while read -r test; do
        case $test in
        *::*) printf '.venv/bin/pytest -q -n 0 %q && ' "$test" ;;
        *) printf '.venv/bin/trial %q && ' "$test" ;;
        esac
    done <<<"$1"
    echo true
}

# run_step NAME DIRECTORY COMMAND: what step does, without a line in the summary.
run_step() {
    current=$1
    local status=0 running follower=
    echo
    echo "== $1"
    : >"$log"
    (cd "$2" && exec timeout --kill-after=20 "$step_limit" bash -euo pipefail -c "$3") \
        >"$log" 2>&1 &
    running=$!
    if [ -z "$lane" ]; then
        # In the background, as a signal is only dealt with once a foreground command has ended.
        tail -n +1 -f -s 0.2 --pid="$running" "$log" &
        follower=$!
    fi
    wait "$running" || status=$?
    if [ -n "$lane" ]; then
        cat "$log"
    else
        wait "$follower" || true
    fi
    return "$status"
}

# together FUNCTION...: run the steps of several functions at the same time, for those that use one
# processor. Each has a log of its own, which is printed when the function ends. All end before this
# does; if any has failed, so does this, with the names of the steps that did.
together() {
    local name status last lanes=() failed=()
    current="steps at the same time: $*"
    for name; do
        (
            trap 'end_children; exit 130' INT TERM HUP
            lane=$name log=$work/$name.log current=$name
            done_steps=() unsteady=()
            trap lane_ends EXIT
            "$name"
        ) >"$work/$name.out" 2>&1 &
        lanes+=($!)
    done
    for name; do
        status=0
        wait "${lanes[0]}" || status=$?
        lanes=("${lanes[@]:1}")
        cat "$work/$name.out"
        # A lane that was killed has left none of these.
        last=$(cat "$work/$name.current" 2>/dev/null) || true
        if [ -e "$work/$name.unsteady" ]; then
            mapfile -t -O "${#done_steps[@]}" done_steps <"$work/$name.done"
            mapfile -t -O "${#unsteady[@]}" unsteady <"$work/$name.unsteady"
        fi
        if ((status)); then
            failed+=("${last:-$name}")
        fi
    done
    if ((${#failed[@]})); then
        printf -v current '%s and ' "${failed[@]}"
        current=${current% and }
        return 1
    fi
}

# lane_ends: leave what the script says at its end of a function that together runs.
lane_ends() {
    local status=$?
    echo "$current" >"$work/$lane.current"
    lines ${done_steps[@]+"${done_steps[@]}"} >"$work/$lane.done"
    lines ${unsteady[@]+"${unsteady[@]}"} >"$work/$lane.unsteady"
    exit "$status"
}

# lines WORD...: print each on a line; nothing if there is none.
lines() {
    if (($#)); then
        printf '%s\n' "$@"
    fi
}

# copy NAME: a fresh copy of what git would commit, as a new clone has it, in $work/NAME.
copy() {
    current="copy the checkout"
    mkdir "$work/$1"
    # --ignore-failed-read: a file that was deleted here and is still in git's index.
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null --ignore-failed-read -T - -cf - 2>"$work/tar.err" |
        tar -C "$work/$1" -xf - || { cat "$work/tar.err"; return 1; }
}

# readme_command MARKER: the command that follows the comment `.. MARKER` in the README.
readme_command() {
    awk -v marker=".. $1" '
        $0 == marker { seen = 1; next }
        seen && /^   [^ ]/ { sub(/^ +/, ""); print; found = 1; exit }
        END { exit !found }
    ' "$root/README.rst" || { echo "README.rst has no command after '.. $1'" >&2; return 1; }
}

# count_tests: set $passed and $skipped to what trial and pytest said in $log. No test at all is a
# failure.
count_tests() {
    local counted
    counted=$(python3 "$root/.ci/count_tests.py" "$log") || { echo "$counted"; return 1; }
    read -r passed skipped <<<"$counted"
}
