#!/usr/bin/env bash
# Runs training on GKE through XPK (pip install xpk): JobSets restart it when a slice is taken away.
#
#   launch/gke_xpk.sh ACTION --cluster=CLUSTER --zone=ZONE --type=TYPE [OPTION...] [-- PROGRAM FLAG...]
#
# Actions:
#   cluster  makes the cluster
#   run      queues the program as a workload
#   list     lists workloads
#   stop     deletes the workload
#   delete   deletes the cluster
#
# Options:
#   --cluster=CLUSTER  name of the cluster
#   --zone=ZONE        such as us-west4-a
#   --type=TYPE        such as v5litepod-64
#   --project=PROJECT  otherwise gcloud's own
#   --slices=N         (default 1)
#   --name=NAME        of the workload (default vitok-jax)
#   --image=IMAGE      that has the requirements, into which XPK puts this checkout
#   --restarts=N       of the workload (default 100)
#   --spot             cheap, and can be taken away at any time
#   --dry-run          prints the commands and runs none
#   --help             prints this
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/lib.sh
source "$here/lib.sh"

action='' cluster='' zone='' type='' project='' slices=1 name=vitok-jax image='' restarts=100 spot=no
program=()

while (($#)); do
  case $1 in
    --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    --dry-run) DRY_RUN=yes ;;
    --spot) spot=yes ;;
    --cluster=*) cluster=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --) shift; program=("$@"); break ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) [[ -z $action ]] || fail "unexpected argument '$1'"; action=$1 ;;
  esac
  shift
done

[[ -n $action ]] || fail 'no action; see --help'
need cluster "$cluster"
need zone "$zone"
whole slices "$slices" 1
whole restarts "$restarts" 0
where=(--cluster="$cluster" --zone="$zone")
[[ -z $project ]] || where+=(--project="$project")

case $action in
  cluster)
    need type "$type"
    kind=(--on-demand)
    [[ $spot == no ]] || kind=(--spot)
    run xpk cluster create "${where[@]}" --tpu-type="$type" --num-slices="$slices" "${kind[@]}"
    ;;
  run)
    need type "$type"
    need image "$image"
    ((${#program[@]})) || fail 'no program after --'
    run xpk workload create "${where[@]}" --workload="$name" --tpu-type="$type" \
      --num-slices="$slices" --max-restarts="$restarts" --base-docker-image="$image" \
      --script-dir="$here/.." --command="python -m $(quoted "${program[@]}") --processes=auto"
    ;;
  list) run xpk workload list "${where[@]}" ;;
  stop) run xpk workload delete "${where[@]}" --workload="$name" ;;
  delete) run xpk cluster delete "${where[@]}" ;;
  *) fail "unknown action '$action'; allowed: cluster, run, list, stop, delete" ;;
esac
