# make run    a throw-away node with console         make test   every gate and test
# make bench  the figures of the README, and pushd   make fuzz   each decoder for FUZZTIME
#             beside its peers; PUSHD_BENCH=long     make chaos  faults against real processes, long
# make soak   clients of all bad habits, 2 x 10 minutes under the race detector

GO       ?= go
FUZZTIME ?= 30s

.PHONY: run build test vet bench failover fuzz chaos soak

run: build
	./bin/pushd dev

build:
	$(GO) build -o bin/pushd ./cmd/pushd

test: vet
	PUSHD_SEEDS=1000 $(GO) test -timeout 20m ./...

vet:
	@test -z "$$($(GO) tool gofumpt -l .)" || { echo "gofumpt would change:"; $(GO) tool gofumpt -l .; exit 1; }
	$(GO) vet ./...
	@test -z "$$($(GO) fix -diff ./...)" || { echo "go fix would change:"; $(GO) fix -diff ./...; exit 1; }
	$(GO) tool staticcheck ./...
	@test -z "$$($(GO) tool deadcode -test ./...)" || { echo "dead code:"; $(GO) tool deadcode -test ./...; exit 1; }
	cd integration/peers && $(GO) vet ./...

bench:
	$(GO) test -run '^$$' -bench . -benchtime 10s -timeout 60m ./integration
	$(GO) test -run '^$$' -bench 'Presence(Spreads|AMillion)' -benchtime 1x -timeout 10m ./cluster
	cd integration/peers && $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m .

failover:
	cd integration/peers && PUSHD_BENCH=long $(GO) test -run '^$$' -bench Failover -benchtime 1x -timeout 60m .

fuzz:
	@$(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/{f[n++]=$$1} /^ok/{for(i=0;i<n;i++)print $$2,f[i];n=0}' | \
	while read -r pkg f; do echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) "$$pkg" || exit 1; done

chaos:
	PUSHD_CHAOS=long $(GO) test -count=1 -timeout 60m -run 'Chaos|Failover|Growth|CutOff|PresenceHeals' -v ./integration
	PUSHD_SEEDS=10000 $(GO) test -count=1 -timeout 90m -run Survive ./cmd/node
	PUSHD_CHAOS=long $(GO) test -count=1 -timeout 20m -run Riot ./cluster

soak:
	PUSHD_SOAK=10m $(GO) test -race -count=1 -timeout 40m -run Soak -v ./edge
