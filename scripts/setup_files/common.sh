# What the setup scripts share; sourced, not run. $self is the name that messages begin with.
# shellcheck shell=bash

say() { echo "$self: $*"; }
fail() { echo "$self: $*" >&2; exit 1; }

# Runs a command whose output matters only when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status -ne 0 ]; then tail -n 40 "$log" >&2; fi
  rm -f "$log"
  return $status
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_apt() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
  say "installing $*"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
  # Package lists may be absent or out of date: fetch them only when the install needs it.
  as_root "${install[@]}" "$@" >/dev/null 2>&1 </dev/null && return
  quietly as_root apt-get update && quietly as_root "${install[@]}" "$@"
}
