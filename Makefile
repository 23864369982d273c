# make build | test | lint | bench | chaos | planted | demo | generate, and race, simulate, fuzz-short, fmt, rules, tools
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO       ?= go
GOBIN    := $(shell $(GO) env GOPATH)/bin
PKGS     ?= ./...
FUZZTIME ?= 5s
TIMEOUT  ?= 12m

# what lints; `make tools` installs exactly these
GOFUMPT_VERSION     := v0.12.0
GOLANGCI_VERSION    := v2.15.0
STATICCHECK_VERSION := v0.8.2

# The race detector needs a C compiler. Without one the tests run without it, and the report says so.
CC_FOUND := $(shell command -v "$$($(GO) env CC 2>/dev/null | cut -d' ' -f1)" 2>/dev/null)

# Skips that count as failures: what EBB_REQUIRE_KAFKA=1 and EBB_REQUIRE_SHARED=1 make mandatory, or REQUIRE itself
# (a regular expression; "." for every skip).
REQUIRE ?= $(if $(filter 1,$(EBB_REQUIRE_KAFKA)),(?i)kafka|broker|java|maven$(if $(filter 1,$(EBB_REQUIRE_SHARED)),|shared),$(if $(filter 1,$(EBB_REQUIRE_SHARED)),(?i)shared))

# Skips that are all right although REQUIRE matches them.
ALLOW ?=
REPORT = $(GO) run ./cmd/ebb/internal/testreport -require '$(REQUIRE)' -allow '$(ALLOW)'

.PHONY: simulate chaos planted build test race vet lint fmt rules bench demo generate fuzz-short tools clean

build: ## the program, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ebb ./cmd/ebb

# With EBB_LONG=1, as .ci/run has it, two passes: everything without the race detector, then the quick tests (-short leaves out what starts a
# broker or takes long) under it. A test that either pass ran was run; what neither ran is listed with its reason.
test: vet ## vet, all tests, with EBB_LONG=1 the quick ones under the race detector too
	@race=; case "$(EBB_LONG)/$(CC_FOUND)" in 1/?*) race=1;; 1/) echo "no C compiler: the race detector is left out";; *) echo "the race detector is left out: EBB_LONG=1, or make race";; esac; \
	passes() { rc=0; \
	  $(GO) test -json -timeout $(TIMEOUT) $(PKGS) || rc=1; \
	  if [ -n "$$race" ]; then echo; echo "-- under the race detector --"; CGO_ENABLED=1 $(GO) test -json -race -short -timeout $(TIMEOUT) $(PKGS) || rc=1; fi; \
	  return $$rc; }; \
	passes | $(REPORT)

race: ## every test under the race detector (slow)
	CGO_ENABLED=1 $(GO) test -json -race -timeout 20m $(PKGS) | $(REPORT)

# SEEDS seeds from FROM on, or as many as run within FOR, in one process for each core.
SEEDS ?= 1000
FROM  ?= 1
FOR   ?=
simulate: ## many seeds of the simulation: make simulate SEEDS=500 FROM=1000, or FOR=10m; see docs/testing.md
	@bin=$$(mktemp -d); trap 'rm -rf "$$bin"' EXIT; $(GO) test -c -o "$$bin/simulation" ./stream/simulation; n=$$(nproc); rc=0; pids=(); \
	for i in $$(seq 0 $$((n - 1))); do \
	  GOMAXPROCS=1 EBB_SIMULATION_FROM=$$(($(FROM) + i)) EBB_SIMULATION_STEP=$$n EBB_SIMULATION_SEEDS=$$((($(SEEDS) + n - 1 - i) / n)) EBB_SIMULATION_FOR=$(FOR) \
	    "$$bin/simulation" -test.run '^TestSimulation$$' -test.timeout 0 & pids+=($$!); \
	done; for p in "$${pids[@]}"; do wait "$$p" || rc=1; done; exit $$rc

vet:
	$(GO) vet $(PKGS)

lint: ## formatting, vet, staticcheck, golangci-lint
	@out=$$("$(call tool,gofumpt)" -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$out" ]; then echo "not gofumpt-formatted (make fmt mends it):"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	"$(call tool,staticcheck)" ./...
	"$(call tool,golangci-lint)" run ./...

fmt:
	"$(call tool,gofumpt)" -w $$(git ls-files -co --exclude-standard '*.go')

rules: ## the alert rules, by promtool
	promtool check rules deploy/prometheus/rules/*.yaml
	promtool test rules deploy/prometheus/tests/*.yaml
	promtool check config --syntax-only deploy/prometheus/prometheus.yaml

bench: ## ebb beside a Kafka Streams job on a real broker; see docs/bench.md
	$(GO) run ./cmd/ebb/internal/bench $(BENCH_FLAGS)

chaos: ## ebb processes on three real brokers, everything broken that can be; see docs/testing.md
	$(GO) test ./cmd/ebb/internal/chaos -run '^TestChaos$$' -count 1 -v -timeout 0 -args -faults 500 $(CHAOS_FLAGS)

planted: ## 60 bugs, each planted into a copy of the tree: does the simulation find them? See docs/testing.md
	$(GO) run ./cmd/ebb/internal/planted $(PLANTED_FLAGS)

demo: ## simulated customers, live, in the browser; nothing to install
	$(GO) run ./cmd/ebb demo

generate: ## what is written by programs: docs/configuration.md and the schema
	$(GO) generate ./...

fuzz-short: ## each fuzz target for FUZZTIME
	@grep -rEl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r dir; do \
	  for f in $$(grep -hoE '^func Fuzz\w+' "$$dir"/*_test.go | cut -d' ' -f2); do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$dir"; \
	  done; done

tools: ## the linters at their pinned versions
	$(GO) install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
	$(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	$(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

clean:
	rm -rf bin bench-result.json

# a tool from the Go bin directory (where `make tools` puts it), else from the path
tool = $(if $(wildcard $(GOBIN)/$(1)),$(GOBIN)/$(1),$(1))
