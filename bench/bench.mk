# Benchmarks; included by the Makefile.
#
#	make bench-micro	every row of the published benchmark, beside a
#				program on the crates that the reference uses
#	make bench		the whole proxy beside its peers
#	make bench-guard	instructions per exchange in the simulator
#
# MICRO_ARGS, BENCH_ARGS: arguments of bench/micro.py and bench/peers.py.

MICRO	:= $(BUILD)/bench/micro/micro
MICRO_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard bench/micro/*.c)))

$(MICRO): $(MICRO_OBJ) $(LIB_OBJ)
	$(LINK)

build-micro: $(MICRO)

bench-micro: deps
	@$(MAKE_F)release build-micro
	@bench/micro.py $(MICRO_ARGS)

.PHONY: build-micro bench-micro
