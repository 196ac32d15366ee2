#!/usr/bin/env bash
# Runs training on Cloud TPU VMs: one slice or several, on all their hosts.
#
#   launch/tpu_vm.sh ACTION --name=NAME --zone=ZONE --type=TYPE [OPTION...] [-- PROGRAM FLAG...]
#
# Actions:
#   create   asks for the TPU (as a queued resource with --queued)
#   wait     waits until a queued resource is there
#   setup    copies this checkout to every host and installs it
#   run      runs `python -m PROGRAM FLAG... --processes=auto` on every host
#   until-done  create, wait, setup and run, again and again until the program ends well; a spot TPU
#            that is taken away is asked for anew, and the program goes on from its last checkpoint;
#            gives up when the program itself fails within ten minutes, three times in a row
#   status   tells the state of the TPU
#   delete   gives the TPU back
#
# Options:
#   --name=NAME        of the TPU
#   --zone=ZONE        such as us-west4-a
#   --type=TYPE        accelerator type, such as v5litepod-64
#   --project=PROJECT  otherwise gcloud's own
#   --version=VERSION  software of the TPU VM (default v2-alpha-tpuv5-lite)
#   --slices=N         as a queued resource of N slices (default 1)
#   --queued           as a queued resource; --slices and `until-done` imply it
#   --spot             cheap, and can be taken away at any time
#   --attempts=N       of `until-done`, 0 for no limit (default 0)
#   --dry-run          prints the commands and runs none
#   --help             prints this
#
# Exit codes: 0 done, 2 wrong usage (of this script or of the program), otherwise the program's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/lib.sh
source "$here/lib.sh"

readonly REMOTE=vitok_jax POLL_SECONDS=${POLL_SECONDS:-30} QUICK_SECONDS=600 QUICK_LIMIT=3
readonly STOPPED=143 HUNG=75 LOST=255  # by SIGTERM, by a peer or the watchdog, by the network
action='' name='' zone='' type='' project='' version=v2-alpha-tpuv5-lite slices=1 queued=no spot=no
attempts=0
program=()

while (($#)); do
  case $1 in
    --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    --dry-run) DRY_RUN=yes ;;
    --queued) queued=yes ;;
    --spot) spot=yes ;;
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --attempts=*) attempts=${1#*=} ;;
    --) shift; program=("$@"); break ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) [[ -z $action ]] || fail "unexpected argument '$1'"; action=$1 ;;
  esac
  shift
done

[[ -n $action ]] || fail 'no action; see --help'
need name "$name"
need zone "$zone"
whole slices "$slices" 1
whole attempts "$attempts" 0
[[ $action == until-done || $slices -gt 1 ]] && queued=yes

where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")

# The TPU VMs: a queued resource of several slices numbers them.
nodes() {
  if ((slices == 1)); then
    printf '%s\n' "$name"
  else
    local index
    for ((index = 0; index < slices; index++)); do printf '%s-%d\n' "$name" "$index"; done
  fi
}

create() {
  need type "$type"
  local options=()
  [[ $spot == no ]] || options+=(--spot)
  if [[ $queued == no ]]; then
    run gcloud compute tpus tpu-vm create "$name" "${where[@]}" --accelerator-type="$type" \
      --version="$version" "${options[@]}"
    return
  fi
  if ((slices == 1)); then
    options+=(--node-id="$name")
  else
    options+=(--node-count="$slices" --node-prefix="$name")
  fi
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    --accelerator-type="$type" --runtime-version="$version" "${options[@]}"
}

queue_state() {
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
    --format='value(state.state)'
}

# Fails when the queued resource will not come, or is gone again.
await() {
  local state
  while true; do
    state=$(queue_state) || return 1
    if [[ $DRY_RUN == yes ]]; then
      printf '%s\n' "$state"
      return 0
    fi
    case $state in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | DELETING) return 1 ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

# everywhere COMMAND: on every host of every slice at once; the worst exit code.
everywhere() {
  local node worst=0 code jobs=()
  for node in $(nodes); do
    if [[ $DRY_RUN == yes ]]; then
      run gcloud compute tpus tpu-vm ssh "$node" "${where[@]}" --worker=all --command="$1"
    else
      gcloud compute tpus tpu-vm ssh "$node" "${where[@]}" --worker=all --command="$1" &
      jobs+=("$!")
    fi
  done
  for job in "${jobs[@]}"; do
    code=0
    wait "$job" || code=$?
    ((code <= worst)) || worst=$code
  done
  return "$worst"
}

setup() {
  local archive node
  archive=/tmp/vitok_jax-$name.tar.gz
  run tar --exclude=.git --exclude='.venv*' --exclude=runs -czf "$archive" -C "$here/.." .
  for node in $(nodes); do
    run gcloud compute tpus tpu-vm scp "$archive" "$node:$REMOTE.tar.gz" "${where[@]}" --worker=all
  done
  everywhere "mkdir -p $REMOTE && tar -xzf $REMOTE.tar.gz -C $REMOTE && cd $REMOTE && \
python3 -m venv .venv && .venv/bin/python -m pip install --quiet -r requirements.txt \
-r requirements-tpu.txt"
}

start() {
  ((${#program[@]})) || fail 'no program after --'
  everywhere "cd $REMOTE && .venv/bin/python -m $(quoted "${program[@]}") --processes=auto"
}

delete() {
  if [[ $queued == yes ]]; then
    run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  else
    run gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  fi
}

until_done() {
  ((${#program[@]})) || fail 'no program after --'
  need type "$type"
  local attempt=0 quick=0 code began
  while true; do
    attempt=$((attempt + 1))
    code=0 began=''
    { create && await && setup && began=$SECONDS && start; } || code=$?
    delete || printf 'error: %s could not be given back and may still cost; see the line above\n' "$name" >&2
    [[ $DRY_RUN == no ]] || return 0
    case $code in
      0 | 2) return "$code" ;;
      "$STOPPED" | "$HUNG" | "$LOST") quick=0 ;;
      *) if [[ -n $began ]] && ((SECONDS - began < QUICK_SECONDS)); then quick=$((quick + 1)); else quick=0; fi ;;
    esac
    if ((quick >= QUICK_LIMIT)); then
      printf 'error: the program failed %d times within minutes, last with %d; given up\n' "$quick" "$code" >&2
      return "$code"
    fi
    if ((attempts && attempt >= attempts)); then
      return "$code"
    fi
    printf 'attempt %d ended with %d; once more\n' "$attempt" "$code" >&2
    sleep "$POLL_SECONDS"
  done
}

case $action in
  create) create ;;
  wait) await ;;
  setup) setup ;;
  run) start ;;
  until-done) until_done ;;
  status)
    if [[ $queued == yes ]]; then queue_state; else
      run gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format='value(state)'
    fi
    ;;
  delete) delete ;;
  *) fail "unknown action '$action'; allowed: create, wait, setup, run, until-done, status, delete" ;;
esac
