# shellcheck shell=bash
# What every launcher shares: errors of one line, and commands that can be shown instead of run.

DRY_RUN=${DRY_RUN:-no}

# fail MESSAGE: one line, exit code 2, as the Python programs do.
fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# quoted WORD...: the words as a shell would have to be given them.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}

# run COMMAND...: runs it, or prints it where --dry-run was given.
run() {
  if [[ $DRY_RUN == yes ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# need NAME VALUE: refuses an option that was not given.
need() {
  [[ -n $2 ]] || fail "--$1 is missing"
}

# whole NAME VALUE LEAST: refuses an option that is no whole number, or a smaller one.
whole() {
  if [[ ! $2 =~ ^(0|[1-9][0-9]*)$ ]] || (($2 < $3)); then
    fail "--$1: '$2' is no whole number from $3 on"
  fi
}

# usage FILE: the comment at the head of a script is its help.
usage() {
  sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p;}' "$1"
}
