#!/usr/bin/env bash
# `make k8s-dev`: asks what to set up, says what it will run and what is missing, then runs it.
set -euo pipefail

explain() {
  cat << 'TEXT'
1) local models   transformer, predictor, pipeline and search on this machine, no cluster
2) Kubeflow       Pipelines and Katib in the current cluster, the model served by KServe
3) hybrid         2, and the services of 1 beside it
TEXT
}

missing=()
need() {
  command -v "$1" > /dev/null || missing+=("$1 ($2)")
}

stop_if_missing() {
  if ((${#missing[@]})); then
    printf 'missing: %s\n' "${missing[@]}" >&2
    exit 1
  fi
}

local_models() {
  need python3 "3.11 or later, with its venv module"
  stop_if_missing
  echo "runs: make serve"
  ${MAKE:-make} serve
}

kubeflow() {
  need kubectl "and a context that reaches a cluster"
  need git "with which kubectl fetches the manifests of Kubeflow"
  stop_if_missing
  ${MAKE:-make} kserve-there
  echo "runs: make kubeflow-install kubeflow-serving"
  ${MAKE:-make} kubeflow-install kubeflow-serving
}

choice=${CHOICE:-}
if [[ -z $choice ]]; then
  explain
  # Nobody there to answer is an answer too: the empty one, refused below.
  read -r -p "1, 2 or 3: " choice || true
fi
case $choice in
  1) local_models ;;
  2) kubeflow ;;
  3)
    # Not joined by `&&`, which would switch errexit off inside the first.
    kubeflow
    local_models
    ;;
  *)
    echo "expected 1, 2 or 3, got '$choice'; without a terminal: make k8s-dev CHOICE=1" >&2
    explain >&2
    exit 2
    ;;
esac
