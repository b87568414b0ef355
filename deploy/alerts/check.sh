#!/usr/bin/env bash
# Checks the rules of the alerts and plays their cases; each rule has to have a case in which it fires and one in which it is quiet.
set -euo pipefail
cd "$(dirname "$0")"
promtool check rules ./*.yaml
promtool test rules tests/*.yaml

# seen FIRING CASES: the alerts of a file of cases that fire (1) or are quiet (0) at some moment of a case.
seen() {
  awk -v firing="$1" '
    function tell() { if (name != "" && fires == firing) print name; name = ""; fires = 0 }
    /eval_time:/ { tell() }
    match($0, /alertname: *[A-Za-z0-9_]+/) { name = substr($0, RSTART, RLENGTH); sub(/^alertname: */, "", name) }
    /exp_alerts:/ { fires = 1 }
    END { tell() }' "$2" | sort -u
}

# without ALL SOME WHAT: an error for each line of ALL that SOME does not have.
bad=0
without() {
  local alert
  while read -r alert; do
    printf 'error: %s %s\n' "$alert" "$3" >&2
    bad=1
  done < <(comm -23 <(printf '%s\n' "$1") <(printf '%s\n' "$2"))
}

for rules in *.yaml; do
  cases=tests/$rules
  alerts=$(sed -nE 's/^ *- alert: *([A-Za-z0-9_]+).*/\1/p' "$rules" | sort -u)
  firing=$(seen 1 "$cases")
  quiet=$(seen 0 "$cases")
  without "$alerts" "$firing" "fires in no case of $cases"
  without "$alerts" "$quiet" "is quiet in no case of $cases"
  # promtool takes an alert that does not exist for a quiet one.
  without "$quiet" "$alerts" "is in $cases and no rule of $rules"
done
exit "$bad"
