# Benchmarks; included by the Makefile. bench/README.md explains.
#
#	make bench-micro	every row of the published benchmark, beside a
#				program on the crates that the reference uses
#	make bench		the whole proxy beside its peers
#
# MICRO_ARGS and BENCH_ARGS are arguments of bench/micro.py, bench/peers.py.

MICRO	:= $(BUILD)/bench/micro/micro
MICRO_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard bench/micro/*.c)))
PEERS	:= $(foreach p,floor agent spoe auth,$(BUILD)/bench/peers/$(p))
DEB_BENCH := nginx haproxy wrk valgrind strace

$(MICRO): $(MICRO_OBJ) $(LIB_OBJ)
	$(LINK)

$(PEERS): %: %.o $(BUILD)/bench/peers/peers.o $(AGENT_OBJ)
	$(LINK)

build-micro: $(MICRO)
build-bench: all load $(PEERS)

bench-micro: deps
	@$(MAKE_F)release build-micro
	@bench/micro.py $(MICRO_ARGS)

bench: deps
	@$(MAKE_F)release build-bench
	@bench/peers.py $(BENCH_ARGS)

.PHONY: build-micro build-bench bench-micro bench
