#!/usr/bin/env bash
# Runs a program as several processes on this machine, joined over loopback: a rehearsal of a pod.
#
#   launch/local.sh [OPTION...] -- PROGRAM FLAG...
#
# Options:
#   --processes=N  how many (default 2)
#   --devices=N    virtual CPU devices of each (default 4)
#   --port=PORT    of process 0 (default 8476)
#   --python=PATH  interpreter (default python)
#   --dry-run      prints the commands and runs none
#   --help         prints this
#
# Exit code: the first that is not 0, of any process.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/lib.sh
source "$here/lib.sh"

processes=2 devices=4 port=8476 python=python
program=()

while (($#)); do
  case $1 in
    --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    --dry-run) DRY_RUN=yes ;;
    --processes=*) processes=${1#*=} ;;
    --devices=*) devices=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --) shift; program=("$@"); break ;;
    *) fail "unknown option '$1'; see --help" ;;
  esac
  shift
done

((${#program[@]})) || fail 'no program after --'
whole processes "$processes" 1
whole devices "$devices" 1
whole port "$port" 1

jobs=()
for ((index = 0; index < processes; index++)); do
  command=(env JAX_PLATFORMS=cpu "XLA_FLAGS=--xla_force_host_platform_device_count=$devices"
    "$python" -m "${program[@]}" "--processes=127.0.0.1:$port,$index,$processes")
  if [[ $DRY_RUN == yes ]]; then
    run "${command[@]}"
  else
    "${command[@]}" &
    jobs+=("$!")
  fi
done
# Whoever stops this script stops the run: a signal to one process reaches all through JAX.
trap 'kill -TERM "${jobs[0]}" 2> /dev/null || true' TERM INT

worst=0
for job in "${jobs[@]}"; do
  code=0
  wait "$job" || code=$?
  # A trapped signal interrupts `wait`; the process is still there then.
  while kill -0 "$job" 2> /dev/null; do
    code=0
    wait "$job" || code=$?
  done
  ((worst)) || worst=$code
done
exit "$worst"
