# Every target does its own set-up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help setup format check test test-services test-images test-all serve clean lock

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# torch goes in first and by its exact version: a range would let pip take a build with gigabytes of CUDA libraries.
$(VENV)/.serve: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c requirements.lock torch==2.13.0
	$(BIN)/pip install --quiet -c requirements.lock -e '.[serve,s3]'
	touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(BIN)/pip install --quiet -c requirements.lock -e '.[dev]'
	touch $@

setup: $(VENV)/.dev ## Install everything into .venv

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV)/.dev ## Format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev ## Fast tests, offline
	$(BIN)/python -m pytest -n 2 -m "not service and not slow and not images and not cluster and not gpu"

# What measures time or watches a whole system for minutes runs alone; the rest, two files at a time.
ALONE := tests/bench tests/demo tests/drills tests/e2e tests/live tests/loadtest
SERVICES := (service or slow) and not images and not cluster and not gpu

test-services: $(VENV)/.dev ## Real servers, Prometheus, S3, Ray, training
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(SERVICES)" $(ALONE:%=--ignore=%)
	$(BIN)/python -m pytest -m "$(SERVICES)" $(ALONE)

test-images: $(VENV)/.dev ## Container images and what runs in them; Debian, as root, many minutes
	$(BIN)/python -m pytest -m images

test-all: test test-services test-images ## All tests that one machine can run

serve: $(VENV)/.serve ## Start transformer and predictor with the packaged model
	$(BIN)/nimbusguard serve $(ARGS)

lock: $(VENV)/.dev ## Write requirements.lock from the environment
	$(BIN)/pip freeze --exclude-editable | sed -e 's/^torch==.*/torch==2.13.0/' -e '/ @ file/d' > requirements.lock

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis runs

# --- deploy ---
.PHONY: manifests

OVERLAYS = $(notdir $(wildcard manifests/overlays/*))

manifests: $(VENV)/.dev ## Render every overlay and check it against schemas and admission rules
	@for overlay in $(OVERLAYS); do \
	  kubectl kustomize manifests/overlays/$$overlay > /dev/null && echo "rendered $$overlay"; \
	done
	$(BIN)/python -m pytest tests/manifests

.PHONY: images

images: $(VENV)/.dev ## Build the images with buildah, no engine needed (Debian, as root)
	$(BIN)/python -m tests.images.build

.PHONY: isvc-up isvc-down

OVERLAY ?= local

isvc-up: $(VENV)/.dev ## Run an overlay's pods on this machine with podman and haproxy: OVERLAY=local
	$(BIN)/python -m tests.isvc up --overlay $(OVERLAY)

isvc-down: $(VENV)/.dev ## Remove what isvc-up started
	$(BIN)/python -m tests.isvc down

.PHONY: bench bench-quick
# Needs `wrk` (Debian: apt install wrk). Half an hour; nothing else should run on the machine.
bench: $(VENV)/.dev ## Measure ours beside the SDK and the raw web server; writes bench/results.md
	$(BIN)/python -m bench all --date "$$(date -u +%F)" $(ARGS)

bench-quick: $(VENV)/.dev ## The same comparison in under two minutes, into runs/bench
	$(BIN)/python -m bench table --quick --output runs/bench --date "$$(date -u +%F)" $(ARGS)

.PHONY: loadtest

loadtest: $(VENV)/.dev ## Steady load for a minute against a fresh `serve`; the report goes to runs/loadtest
	$(BIN)/python -m loadtest --scenario steady $(ARGS)

# The names that users know; each says what it lacks before it starts.
.PHONY: kubeflow-serving kubeflow-serving-test kubeflow-status kubeflow-logs kubectl-there kserve-there

SERVING := nimbusguard-serving
ISVC := nimbusguard-dqn-model

kubectl-there:
	@command -v kubectl > /dev/null || { echo "kubectl is not installed" >&2; exit 1; }
	@kubectl version --request-timeout=10s > /dev/null 2>&1 || { echo "kubectl reaches no cluster; see: kubectl config current-context" >&2; exit 1; }

# $(1) the API's group, $(2) its plural, $(3) what to do where it is not served. No `grep -q`: it would leave kubectl writing to nobody.
define needs-api
@kubectl api-resources --api-group=$(1) -o name | grep -x '$(2).$(1)' > /dev/null || { echo "the cluster has no $(2).$(1); $(3)" >&2; exit 1; }
endef

kserve-there: kubectl-there
	$(call needs-api,serving.kserve.io,inferenceservices,install KServe: docs/deploy.md)

kubeflow-serving: kserve-there ## Apply an overlay to the cluster and wait for both components: OVERLAY=local
	kubectl apply -k manifests/overlays/$(OVERLAY)
	kubectl -n $(SERVING) wait inferenceservice/$(ISVC) --for=condition=PredictorReady --timeout=300s
	test -z "$$(kubectl -n $(SERVING) get inferenceservice/$(ISVC) -o 'jsonpath={.spec.transformer}')" || \
	  kubectl -n $(SERVING) wait inferenceservice/$(ISVC) --for=condition=TransformerReady --timeout=300s

kubeflow-serving-test: kserve-there ## Ask the deployed service (Standard mode) for a decision
	kubectl create --raw /api/v1/namespaces/$(SERVING)/services/$(ISVC):80/proxy/v1/models/nimbusguard-dqn:predict -f tests/data/v1/named.json

kubeflow-status: kserve-there ## Conditions, pods, Services and graphs of the deployed service
	kubectl -n $(SERVING) get inferenceservices -o 'custom-columns=NAME:.metadata.name,READY:.status.conditions[?(@.type=="Ready")].status,PREDICTOR:.status.conditions[?(@.type=="PredictorReady")].status,TRANSFORMER:.status.conditions[?(@.type=="TransformerReady")].status,URL:.status.address.url'
	kubectl -n $(SERVING) get pods,services -o wide
	kubectl -n $(SERVING) get inferencegraphs

kubeflow-logs: kubectl-there ## The last lines of both components: LINES=100
	kubectl -n $(SERVING) logs -l serving.kserve.io/inferenceservice=$(ISVC) --all-containers --prefix --tail=$(or $(LINES),100)

.PHONY: train evaluate
RUN ?= runs/dqn
# Five seeds, about five minutes of one core each. The traces are looked for in ../shared/traces, or NIMBUSGUARD_TRACES.
train: $(VENV)/.dev ## Learn a policy from scratch, five seeds, into runs/dqn
	$(BIN)/nimbusguard train --out $(RUN) $(ARGS)

# The gate's own exit status says whether the candidate may be published; the report is made either way.
evaluate: $(VENV)/.dev ## Gate the candidate of runs/dqn and write runs/evaluation/report.html
	$(BIN)/nimbusguard gate --run $(RUN) || test -f $(RUN)/gate.json
	$(BIN)/nimbusguard evaluate --policy version:$(RUN)/candidate --policy guarded+version:$(RUN)/candidate \
	  --out runs/evaluation $(ARGS)

.PHONY: demo
demo: $(VENV)/.dev ## The closed loop live on a real trace, beside the HPA; ten minutes; ARGS='--seconds 120'
	$(BIN)/python -m tests.demo $(ARGS)

# --- train in the open ---
.PHONY: pipeline tune e2e

pipeline: $(VENV)/.dev ## The training pipeline on this machine: PROMETHEUS=http://…; ARGS='--set hours=24.0'
	$(BIN)/nimbusguard pipeline run --local $(if $(PROMETHEUS),--prometheus $(PROMETHEUS)) $(ARGS)

tune: $(VENV)/.dev ## The Katib Experiment on this machine, hours of it; ARGS='-- --set epochs=4' makes it small
	$(BIN)/nimbusguard tune run $(ARGS)

e2e: $(VENV)/.dev ## Metrics to a decision by a freshly trained model, on this machine; KUBECONFIG_E2E=file asks a cluster
	$(BIN)/python -m pytest tests/e2e -m "service$(if $(KUBECONFIG_E2E), or cluster)" $(if $(KUBECONFIG_E2E),--kubeconfig $(KUBECONFIG_E2E))

# Each says what it lacks before it starts; KFP_HOST is the address of Kubeflow Pipelines' API.
.PHONY: k8s-dev kubeflow-install kubeflow-pipelines kubeflow-experiments kubeflow-experiments-status kubeflow-experiments-best
.PHONY: katib-there kfp-there

KFP_VERSION ?= 2.17.0
KATIB_VERSION ?= v0.19.0
EXPERIMENTS := nimbusguard-experiments
EXPERIMENT := nimbusguard-dqn-hyperparameter-tuning

k8s-dev: ## Choose what to set up: 1 local models, 2 Kubeflow, 3 both; CHOICE=1 asks nothing
	@BIN=$(BIN) MAKE="$(MAKE)" CHOICE="$(CHOICE)" bash manifests/k8s-dev.sh

kubeflow-install: kubectl-there ## Kubeflow Pipelines and Katib, standalone, into the current cluster
	@command -v git > /dev/null || { echo "git is not installed; kubectl fetches the manifests of Kubeflow with it" >&2; exit 1; }
	@echo "context: $$(kubectl config current-context)"
	kubectl apply -k "github.com/kubeflow/pipelines/manifests/kustomize/cluster-scoped-resources?ref=$(KFP_VERSION)"
	kubectl wait --for=condition=established --timeout=60s crd/applications.app.k8s.io
	kubectl apply -k "github.com/kubeflow/pipelines/manifests/kustomize/env/platform-agnostic?ref=$(KFP_VERSION)"
	kubectl apply --server-side -k "github.com/kubeflow/katib/manifests/v1beta1/installs/katib-standalone?ref=$(KATIB_VERSION)"
	kubectl -n kubeflow wait --for=condition=available --timeout=600s deployment/ml-pipeline deployment/katib-controller

kfp-there:
	@test -n "$(KFP_HOST)" || { echo "KFP_HOST is not set; kubectl -n kubeflow port-forward service/ml-pipeline 8888 and KFP_HOST=http://127.0.0.1:8888" >&2; exit 1; }
	@command -v curl > /dev/null || { echo "curl is not installed" >&2; exit 1; }
	@curl -fsS --max-time 10 "$(KFP_HOST)/apis/v2beta1/healthz" > /dev/null || { echo "Kubeflow Pipelines does not answer at $(KFP_HOST)" >&2; exit 1; }

katib-there: kubectl-there
	$(call needs-api,kubeflow.org,experiments,install Katib: make kubeflow-install)

kubeflow-pipelines: kfp-there $(VENV)/.dev ## Let the cluster run the training pipeline once a week: KFP_HOST=http://…
	$(BIN)/nimbusguard pipeline schedule --host $(KFP_HOST) $(ARGS)

kubeflow-experiments: katib-there $(VENV)/.dev ## Start the search for hyper-parameters, with what the environment sets
	kubectl apply -f manifests/katib/namespace.yaml -f manifests/katib/traces.yaml
	$(BIN)/nimbusguard tune render | kubectl apply -f -

kubeflow-experiments-status: katib-there ## Where the search stands: conditions and trials
	kubectl -n $(EXPERIMENTS) get experiment $(EXPERIMENT) -o 'custom-columns=NAME:.metadata.name,STATE:.status.conditions[-1:].type,TRIALS:.status.trials,SUCCEEDED:.status.trialsSucceeded,FAILED:.status.trialsFailed,RUNNING:.status.trialsRunning'
	kubectl -n $(EXPERIMENTS) get trials

kubeflow-experiments-best: katib-there $(VENV)/.dev ## The best parameters so far, written as a training config
	$(BIN)/nimbusguard tune best --cluster $(ARGS)
