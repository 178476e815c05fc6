# agentproxyd: plain GNU make. Objects under build/<flavour>/.
#
#	make			the release binaries
#	make demo		see it work
#	make check		all tests
#	make FLAVOUR=asan	another flavour: debug asan tsan sim fuzz
#	make deps		Debian's packages (demo and check do it too)
#
#	make check-asan check-tsan check-e2e check-interop lint format
#	make dialects waf-time	docs/dialects.md of what ran; what a WAF costs
#	make sim SEEDS=1-1000	the simulator; SEED=7 replays one, verbosely
#	make sim-mutations	does it find faults that are put in?
#	make chaos		agents that go wrong: docs/chaos.md
#	make fuzz FUZZ_SECONDS=60
#	make pgo		build/pgo: release, after a look at what is run
#	make bench-micro	see bench/bench.mk
#	make install DESTDIR= PREFIX=/usr
#	make deb		build/deb/agentproxyd_*.deb
#	CI=1			warnings are errors

PREFIX	?= /usr
DESTDIR	?=
FLAVOUR	?= release
ifeq ($(FLAVOUR),fuzz)
CC	:= clang
endif
CC	?= cc
VERSION	:= 0.1.0
JOBS	?= $(shell nproc 2>/dev/null || echo 2)

SEEDS		?= 1-1000
FUZZ_SECONDS	?= 30

# ---- packages ---------------------------------------------------------------

DEB_BUILD := gcc pkg-config libevent-dev libmsgpack-dev libjansson-dev \
	     liburcu-dev libyaml-dev
DEB_TEST  := libcmocka-dev python3 nginx curl wrk binutils procps valgrind \
	     protobuf-compiler modsecurity-crs
# For one of the guide's examples; not for everybody, it is large.
DEB_TEST += $(if $(INTEROP),$(if $(shell command -v go),,golang-go))

MSGPACK	:= $(shell pkg-config --exists msgpack-c 2>/dev/null && \
		echo msgpack-c || echo msgpack)
PKGS	:= libevent_core libevent_extra jansson yaml-0.1 liburcu liburcu-cds \
	   $(MSGPACK)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lurcu-memb \
	      -lpthread -lm

# ---- flags ------------------------------------------------------------------

WARN	:= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	   -Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wno-unused-parameter \
	   -Wformat=2 -Wswitch-enum -Wno-format-nonliteral
ifdef CI
WARN	+= -Werror
endif

# A request passes through many small functions in many files: with these it
# needs 7 % less instructions. Loops over bytes that are worth vectors have them
# in the source; those that the compiler makes only cost on short texts.
INLINE	    := --param max-inline-insns-auto=100 \
	       --param inline-unit-growth=200 -fipa-pta
OPT_release := -O3 -fno-tree-vectorize $(INLINE) -g -flto=auto -fno-plt \
	       -D_FORTIFY_SOURCE=2 -fstack-protector-strong \
	       -fstack-clash-protection -fcf-protection
OPT_debug   := -O0 -g3
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer \
	       -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_sim     := -O2 -g
OPT_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
	       -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LD_release  := -flto=auto -flto-partition=one -O3 -pie -Wl,-z,relro,-z,now,-z,noexecstack
# See `make pgo`. Release has the warnings: here gcc also warns of each function
# that was not seen running.
OPT_train   := $(OPT_release) -fprofile-generate -fprofile-update=atomic
OPT_pgo     := $(OPT_release) -fprofile-use -fprofile-partial-training -w
LD_train    := $(LD_release) -fprofile-generate
LD_pgo      := $(LD_release) -fprofile-use
LD_asan     := -fsanitize=address,undefined
LD_tsan     := -fsanitize=thread
LD_fuzz     := -fsanitize=fuzzer,address,undefined

BUILD	:= build/$(FLAVOUR)
CPPFLAGS += -Isrc -Ilib -D_GNU_SOURCE -DVERSION='"$(VERSION)"'
CFLAGS_ALL = -std=gnu11 -fPIE $(WARN) $(OPT_$(FLAVOUR)) $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(LD_$(FLAVOUR)) $(LDFLAGS)
# Short lines; V=1 shows the whole commands.
ifndef V
SAY_CC	= @echo "  CC    $@";
SAY_LD	= @echo "  LD    $@";
endif
LINK	= $(SAY_LD) $(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

# ---- the daemon and the agents ----------------------------------------------

ROOMS	:= base net http wire config h1 report policy upstream agent exchange \
	   admin daemon
SRC	:= $(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/*.c)))
OBJ	:= $(SRC:%.c=$(BUILD)/%.o)
MAIN	:= $(BUILD)/src/daemon/main.o
# Everything but main(), for the daemon and for tests.
LIB_OBJ	:= $(filter-out $(MAIN),$(OBJ))

all: $(BUILD)/agentproxyd $(BUILD)/agents/denylist $(BUILD)/scripted-agent \
	lib

$(BUILD)/agentproxyd: $(MAIN) $(LIB_OBJ)
	$(LINK)

# What agents need: the protocol, the bottom of the house, and a way to send.
AGENT_OBJ := $(filter $(BUILD)/src/base/% $(BUILD)/src/wire/%,$(OBJ)) \
	     $(BUILD)/lib/send.o

AGENTS_OWN := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard lib/*.c)))

$(BUILD)/agents/denylist: $(BUILD)/agents/denylist.o $(BUILD)/agents/rules.o \
		$(AGENTS_OWN) $(AGENT_OBJ)
	$(LINK)

SCRIPTED_OBJ := $(patsubst %.c,$(BUILD)/%.o,\
		$(sort $(wildcard tests/scripted-agent/*.c)))

$(BUILD)/scripted-agent: $(SCRIPTED_OBJ) $(AGENT_OBJ)
	$(LINK)

# ---- libagentproxy, for people's agents in C --------------------------------

# lib/ and what it needs of the protocol. Both libraries are made of the same
# objects; neither shows a name that agentproxy.h does not have.
SO_MAJOR := 0
SO	 := libagentproxy.so
SO_SRC	 := $(sort $(wildcard lib/*.c)) $(addprefix src/base/,arena.c assert.c \
	    block.c mem.c outq.c slab.c) $(addprefix src/wire/,agent_event.c \
	    agent_reply.c base64.c base64_bulk.c check.c decode_json.c \
	    decode_msgpack.c frame.c handshake.c put_json.c put_msgpack.c \
	    reader.c register.c utf8.c values.c)
SO_OBJ	 := $(SO_SRC:%.c=$(BUILD)/pic/%.o)

lib: $(BUILD)/$(SO).$(VERSION) $(BUILD)/libagentproxy.a

$(BUILD)/$(SO).$(VERSION): $(SO_OBJ) lib/libagentproxy.map
	$(SAY_LD) $(CC) $(CFLAGS_ALL) -fPIC -shared \
		-Wl,-soname,$(SO).$(SO_MAJOR) \
		-Wl,--version-script=lib/libagentproxy.map \
		$(filter-out -pie,$(LDFLAGS_ALL)) -o $@ $(SO_OBJ) \
		$(shell pkg-config --libs jansson)

$(BUILD)/libagentproxy.a: $(SO_OBJ)
	$(SAY_LD) ld -r -o $(@:.a=.o) $^ && \
		objcopy --localize-hidden $(@:.a=.o) && \
		rm -f $@ && ar rcs $@ $(@:.a=.o)

$(BUILD)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(SAY_CC) $(CC) $(CPPFLAGS) $(CFLAGS_ALL) -fPIC -fvisibility=hidden \
		-fno-lto -MMD -MP -c -o $@ $<

# A C string of each line of the status page.
$(BUILD)/src/admin/status.o: CPPFLAGS += -I$(BUILD)/src
$(BUILD)/src/admin/status.o: $(BUILD)/src/admin/status.inc
$(BUILD)/src/admin/status.inc: src/admin/status.html
	@mkdir -p $(@D)
	@sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $< > $@

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(SAY_CC) $(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# ---- unit tests: one program per file ---------------------------------------

UNIT	:= $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
# Those in which threads meet.
TSAN_UNIT := $(filter %/test_loop,$(UNIT)) \
	     $(foreach n,agent rcu counter access,$(filter \
	     $(BUILD)/tests/unit/test_$(n)%,$(UNIT)))

$(BUILD)/tests/unit/test_agentproxy: $(BUILD)/libagentproxy.a

$(UNIT): %: %.o $(LIB_OBJ)
	$(LINK) -lcmocka

unit: $(UNIT)
unit-tsan: $(TSAN_UNIT)

# ---- the simulator: the daemon's own objects on twins of two files ----------

SIM_NOT	:= $(BUILD)/src/net/loop.o $(BUILD)/src/net/sock.o \
	   $(BUILD)/src/admin/% $(BUILD)/src/daemon/%
SIM_OBJ	:= $(filter-out $(SIM_NOT),$(OBJ))
SIM_OWN	:= $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/sim/*.c)))
SIM	:= $(if $(SIM_OWN),$(BUILD)/tests/sim/sim)

$(BUILD)/tests/sim/sim: $(SIM_OWN) $(SIM_OBJ)
	$(LINK)

build-sim: $(SIM)

sim: FLAVOUR := $(if $(filter file,$(origin FLAVOUR)),sim,$(FLAVOUR))
sim:
	@$(MAKE) --no-print-directory FLAVOUR=$(FLAVOUR) build-sim
	build/$(FLAVOUR)/tests/sim/sim $(if $(SEED),--seed $(SEED) -v,--seeds $(SEEDS))

# Does it find what is wrong? Breaks a copy of the tree and looks.
sim-mutations:
	@tests/sim/mutations $(if $(filter file,$(origin SEEDS)),1-2000,$(SEEDS))

# ---- fuzzers ----------------------------------------------------------------

FUZZ	 := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_OBJ := $(filter $(foreach r,base http wire config policy,\
	    $(BUILD)/src/$(r)/%),$(OBJ))

$(FUZZ): %: %.o $(FUZZ_OBJ)
	$(LINK)

run-fuzz: $(FUZZ)
	@for f in $(FUZZ); do \
		n=$${f##*/fuzz_}; new=$(BUILD)/corpus/$$n; \
		mkdir -p $$new tests/fuzz/corpus/$$n; \
		echo "== $$n"; \
		$$f -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -timeout=10 \
			-artifact_prefix=$(BUILD)/crash-$$n- \
			$$new tests/fuzz/corpus/$$n || exit 1; \
	done

fuzz:
	@$(MAKE) --no-print-directory FLAVOUR=fuzz -j$(JOBS) run-fuzz

# ---- load tools -------------------------------------------------------------

LOAD	:= $(BUILD)/tests/load/load $(BUILD)/tests/load/origin

$(LOAD): %: %.o $(BUILD)/tests/load/common.o
	$(LINK)

load: $(LOAD)

# ---- a release that has been watched at work ---------------------------------

# What train/ writes at its end lies beside its objects; the compiler looks for
# it beside those that it makes.
pgo: deps
	@$(MAKE_F)train all load
	@find build/train -name '*.gcda' -delete
	@tests/load/train build/train
	@rm -rf build/pgo && mkdir -p build/pgo
	@cd build/train && find . -name '*.gcda' -exec cp --parents {} ../pgo \;
	@$(MAKE_F)pgo all

-include bench/bench.mk

# ---- checks -----------------------------------------------------------------

MAKE_F	= $(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=

lint:
	@tests/lint

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

check: deps
	@$(MAKE_F)asan unit build-sim
	@$(MAKE_F)release all load build-guard
	@$(if $(INTEROP),tests/interop/build)
	@tests/run lint guard unit:asan sim:asan e2e:release \
		$(if $(INTEROP),interop:release)

check-asan: deps
	@$(MAKE_F)asan all unit build-sim
	@$(MAKE_F)release load
	@tests/run unit:asan sim:asan e2e:asan

# The parts in which threads meet: the loop's posts, the agent table, reload.
check-tsan: deps
	@$(MAKE_F)tsan all unit-tsan
	@$(MAKE_F)release load
	@tests/run unit:tsan e2e:tsan:reload,handover,stop_,drain,kill,proxy_get

check-e2e: deps
	@$(MAKE_F)release all load
	@tests/run e2e:release

# Every way for an agent to go wrong, under load; writes its table.
chaos: deps
	@$(MAKE_F)release all load
	@tests/e2e/chaos.py --table docs/chaos.md

# Agents on the public crates; wants cargo (rustc 1.95) and protoc, else all is
# skipped. `make check INTEROP=1` has it too.
VECTOR_TESTS := $(addprefix build/asan/tests/unit/test_wire_,vectors dialects)

check-interop: deps
	@$(MAKE_F)release all load
	@tests/interop/build
	@$(MAKE_F)asan $(VECTOR_TESTS)
	@tests/run interop:release
	@[ -e build/interop/skipped ] || tests/interop/table asan

# docs/dialects.md, of what ran.
dialects: deps
	@$(MAKE_F)release all load
	@$(MAKE_F)asan $(VECTOR_TESTS)
	@tests/interop/build
	@tests/e2e/run --build build/release interop_ >build/interop/log || \
		{ cat build/interop/log; exit 1; }
	@tests/interop/table asan --write

# What the WAF adds to a request: time, and CPU time of each process.
waf-time: deps
	@$(MAKE_F)release all load
	@tests/interop/build
	@tests/e2e/run --build build/release interop_waf_time
	@cat build/interop/waf.txt

demo: deps
	@$(MAKE_F)release all
	@tests/demo

deps:
	@missing=; for p in $(DEB_BUILD) $(DEB_TEST); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | \
			grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	command -v apt-get >/dev/null || { \
		echo "not Debian; wanted:$$missing" >&2; exit 0; }; \
	[ "$$(id -u)" = 0 ] && sudo= || sudo=sudo; \
	$$sudo apt-get -q update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
		--no-install-recommends $$missing

# ---- install ----------------------------------------------------------------

SBIN	:= $(DESTDIR)$(PREFIX)/sbin
LIBEXEC	:= $(DESTDIR)$(PREFIX)/libexec/agentproxyd
SHARE	:= $(DESTDIR)$(PREFIX)/share
ETC	:= $(DESTDIR)/etc/agentproxyd
UNITDIR	:= $(PREFIX)/lib/systemd/system
CONF	:= conf/agentproxyd.yaml conf/denylist.rules
MONITOR	:= conf/grafana-dashboard.json conf/alerts.yaml
UNITS	:= $(wildcard systemd/*.service systemd/*.socket systemd/*.target)
SYSUSERS := $(DESTDIR)$(PREFIX)/lib/sysusers.d
COMPLETION := $(SHARE)/bash-completion/completions/agentproxyd

install: all install-lib
	install -d $(SBIN) $(LIBEXEC) $(SHARE)/man/man8 $(ETC)/agents \
		$(DESTDIR)$(UNITDIR) $(SHARE)/agentproxyd
	install -m 755 $(BUILD)/agentproxyd $(SBIN)/
	install -m 755 $(BUILD)/agents/denylist $(LIBEXEC)/
	install -m 644 $(wildcard *.8) $(SHARE)/man/man8/
	for f in $(CONF); do \
		[ -e $(ETC)/$${f##*/} ] || install -m 644 $$f $(ETC)/; done
	[ -e $(ETC)/agents/denylist.env ] || \
		install -m 644 conf/denylist.env $(ETC)/agents/
	install -m 644 $(MONITOR) $(SHARE)/agentproxyd/
	install -m 644 $(UNITS) $(DESTDIR)$(UNITDIR)/
	install -D -m 644 systemd/agentproxyd.sysusers \
		$(SYSUSERS)/agentproxyd.conf
	install -D -m 644 packaging/agentproxyd.bash $(COMPLETION)

INCLUDEDIR ?= $(PREFIX)/include
LIBDIR	?= $(PREFIX)/lib
TO_LIB	:= $(DESTDIR)$(LIBDIR)

install-lib: lib
	install -d $(DESTDIR)$(INCLUDEDIR) $(TO_LIB)/pkgconfig
	install -m 644 lib/agentproxy.h $(DESTDIR)$(INCLUDEDIR)/
	install -m 644 $(BUILD)/libagentproxy.a $(BUILD)/$(SO).$(VERSION) \
		$(TO_LIB)/
	ln -sf $(SO).$(VERSION) $(TO_LIB)/$(SO).$(SO_MAJOR)
	ln -sf $(SO).$(SO_MAJOR) $(TO_LIB)/$(SO)
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' \
		-e 's|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		lib/libagentproxy.pc.in > $(TO_LIB)/pkgconfig/libagentproxy.pc

# The configuration stays.
uninstall:
	rm -f $(SBIN)/agentproxyd $(LIBEXEC)/denylist $(COMPLETION) \
		$(SHARE)/man/man8/agentproxyd.8 $(SYSUSERS)/agentproxyd.conf \
		$(UNITS:systemd/%=$(DESTDIR)$(UNITDIR)/%) \
		$(MONITOR:conf/%=$(SHARE)/agentproxyd/%) \
		$(DESTDIR)$(INCLUDEDIR)/agentproxy.h \
		$(TO_LIB)/libagentproxy.* $(TO_LIB)/pkgconfig/libagentproxy.pc

# The Debian package, of what is committed; lintian looks at it if it is there.
DEB_PACK := debhelper dpkg-dev fakeroot

deb: DEB_TEST := $(DEB_PACK)
deb: deps
	@packaging/deb $(VERSION)

dist:
	@mkdir -p build
	git archive --prefix=agentproxyd-$(VERSION)/ \
		-o build/agentproxyd-$(VERSION).tar.gz HEAD

clean:
	rm -rf build

# For tests/lint: what is linked into what.
print-objects:
	@echo daemon: $(OBJ)
	@echo sim: $(SIM_OBJ)
	@echo own: $(SIM_OWN)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all lib install-lib unit unit-tsan build-sim sim sim-mutations run-fuzz \
	fuzz load lint format check check-asan check-tsan check-e2e check-interop \
	dialects waf-time chaos demo deps install deb \
	uninstall dist clean print-objects pgo
.SECONDARY:
