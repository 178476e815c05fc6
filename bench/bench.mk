# Benchmarks; included by the Makefile. bench/README.md explains.
#
#	make bench-micro	every row of the published benchmark, beside a
#				program on the crates that the reference uses
#	make bench		the whole proxy beside its peers
#	make bench-guard	instructions per exchange, against the record
#
# MICRO_ARGS and BENCH_ARGS are arguments of bench/micro.py, bench/peers.py.

MICRO	:= $(BUILD)/bench/micro/micro
MICRO_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard bench/micro/*.c)))
PEERS	:= $(foreach p,floor agent spoe auth,$(BUILD)/bench/peers/$(p))
DEB_BENCH := nginx haproxy wrk valgrind strace python3
BENCH_DEPS = @$(MAKE) --no-print-directory deps DEB_TEST="$(1)"

$(MICRO): $(MICRO_OBJ) $(LIB_OBJ)
	$(LINK)

$(PEERS): %: %.o $(BUILD)/bench/peers/peers.o $(AGENT_OBJ)
	$(LINK)

# On the simulator's twins of loop and sock, without its scenarios. `make check`
# has it too.
GUARD	:= $(BUILD)/bench/guard/guard
$(GUARD): $(GUARD).o $(SIM_OBJ) $(patsubst %,$(BUILD)/tests/sim/sim_%.o,\
		loop net script sock world)
	$(LINK)

build-guard: $(GUARD)
build-micro: $(MICRO)
build-bench: all load $(PEERS)

bench-micro:
	$(call BENCH_DEPS,python3)
	@$(MAKE_F)release build-micro
	@bench/micro.py $(MICRO_ARGS)

bench:
	$(call BENCH_DEPS,$(DEB_BENCH))
	@$(MAKE_F)release build-bench
	@bench/peers.py $(BENCH_ARGS)

bench-guard:
	$(call BENCH_DEPS,valgrind binutils python3)
	@$(MAKE_F)release build-guard
	@bench/guard.py

.PHONY: build-micro build-bench build-guard bench-micro bench bench-guard
