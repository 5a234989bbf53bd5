# Needs Go and make. Other tools are Go programs, built here in the versions
# below, and Debian packages: a C compiler for the race detector, a browser, and
# what the tests in e2e name.

GO       ?= go
ifeq ($(origin CC),default)
CC := gcc
endif
export CC
BIN      := $(CURDIR)/bin
PROGRAM  := twilio_operations_exporter
FUZZTIME ?= 2s
SEEDS    ?= 12

# Tests that need root write their names here if somebody else runs them.
export ROOT_SKIPS := $(BIN)/skips

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0
GORELEASER_VERSION    := v2.14.0

GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)

# The date is that of the commit, so that builds of a commit are identical.
VERSION  ?= $(patsubst v%,%,$(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown))
REVISION ?= $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)
BRANCH   ?= $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
DATE     ?= $(or $(shell git log -1 --format=%cd --date=format:%Y%m%d-%H:%M:%S 2>/dev/null),unknown)
STAMP    := github.com/prometheus/common/version
LDFLAGS  := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(REVISION) -X $(STAMP).Branch=$(BRANCH) -X $(STAMP).BuildDate=$(DATE)

# The other modules, e2e first.
MODULES := $(sort $(patsubst %/go.mod,%,$(shell git ls-files '*/go.mod' 2>/dev/null)))
MODULES := $(filter e2e,$(MODULES)) $(filter-out e2e,$(MODULES))
TESTS   := $(MODULES:%=module/%)

.PHONY: all
all: build

.PHONY: build
build: ## builds the program into this directory
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(PROGRAM) .

# Two at a time, as e2e mostly waits and takes as long as all the others together.
.PHONY: test
test: cc chromium build ## runs all tests
	@mkdir -p $(BIN) && rm -f $(ROOT_SKIPS)
	@$(MAKE) --no-print-directory -j 2 $(firstword $(TESTS)) race simulate fuzz $(wordlist 2,99,$(TESTS))
	@if [ -s $(ROOT_SKIPS) ]; then echo "skipped, as they need root: $$(wc -l < $(ROOT_SKIPS))"; cat $(ROOT_SKIPS); fi

.PHONY: race
race: cc
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

# More seeds than go test ./... uses, for simulated worlds and every kind of list.
.PHONY: simulate
simulate:
	$(GO) test -timeout 20m ./collector/window -seeds $(SEEDS)

# go test can only fuzz one target of one package. By default, it may spend a minute on minimizing an input.
.PHONY: fuzz
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package; \
		done; \
	done

.PHONY: $(TESTS)
$(TESTS): module/%:
	cd $* && $(GO) vet ./... && $(GO) test -count=1 -timeout=40m ./...

module/e2e/browser: chromium

.PHONY: test-long
test-long: cc ## runs tests that take too long for make test: soak, load, memory at full size, many seeds
	cd e2e && CGO_ENABLED=1 $(GO) test -run '^TestSoak$$' -v -count=1 -timeout 30m . -soak=10m
	cd e2e && $(GO) test -run '^TestRestartsInPrometheus$$' -v -count=1 -timeout 30m . -downtime=3m
	cd e2e && $(GO) test -run '^TestManyAccounts$$' -v -count=1 . -accounts=200 -accounts.for=1m
	cd bench && $(GO) test -run Memory -v -count=1 -timeout 30m -full
	$(MAKE) simulate SEEDS=80
	$(MAKE) fuzz FUZZTIME=1m

.PHONY: lint
lint: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: fmt
fmt: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) fmt ./...

.PHONY: docs
docs: ## generates the tables in the README and in docs/, and the JSON Schema
	$(GO) test -p 1 -run '^TestDocs$$' ./collector ./internal/config ./internal/web -update

.PHONY: bench
bench: ## updates the measurements in docs/performance.md and docs/metrics.md
	cd bench && $(GO) test -run '^TestPerformance$$' -v -count=1 -timeout=15m -full -write ../docs/performance.md
	cd bench && $(GO) test -run '^TestNamedOperationsChurn$$' -v -count=1 -full -update

.PHONY: benchmarks
benchmarks: ## all Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...
	cd bench && $(GO) test -run '^$$' -bench . -benchmem

# Not part of the tests, as it queries a database on the network.
.PHONY: govulncheck
govulncheck:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

# Needs what goreleaser needs to publish: a token for the repository's host, and
# Docker with a login to IMAGE's registry; RELEASE_FLAGS=--skip=docker leaves out
# the image.
.PHONY: release
release: ## publishes the tag that is checked out; with SNAPSHOT=1, builds any commit and publishes nothing
ifndef SNAPSHOT
	@git describe --tags --exact-match --match 'v[0-9]*' > /dev/null 2>&1 || \
		{ echo "no tag v... on HEAD: check one out, or try with SNAPSHOT=1" >&2; exit 1; }
	@test -z "$$(git status --porcelain)" || \
		{ echo "the tree differs from its tag (git status): commit, tag again, or try with SNAPSHOT=1" >&2; exit 1; }
endif
	$(GO) run github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION) release --clean $(if $(SNAPSHOT),--snapshot) $(RELEASE_FLAGS)

.PHONY: licenses
licenses: build ## lists the licence of each module in the program; fails if one is not allowed
	@mkdir -p $(BIN)
	$(GO) -C e2e/manifests build -o $(BIN)/licenses ./cmd/licenses
	@$(BIN)/licenses $(PROGRAM)

# $(call need,COMMAND,PACKAGES,WHAT FOR) installs Debian packages if a command is
# missing and the user is root. Otherwise it says how to install them.
need = @command -v $(1) > /dev/null || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Installing $(2): $(3)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(2) > /dev/null; \
	else \
		echo "$(1) is missing: $(3). On Debian: sudo apt-get install $(2)" >&2; exit 1; \
	fi; }

.PHONY: cc
cc:
	$(call need,$(CC),gcc libc6-dev,the race detector needs a C compiler)

.PHONY: chromium
chromium:
	$(call need,chromium,chromium,tests open the landing page in it)

$(GOLANGCI_LINT):
	GOBIN=$(BIN) $(GO) install -trimpath github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: clean
clean:
	rm -rf $(BIN) $(PROGRAM)
