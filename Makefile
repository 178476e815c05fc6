# agentproxyd: plain GNU make. Objects under build/<flavour>/.
#
#	make			the release binaries
#	make FLAVOUR=asan	another flavour: debug asan tsan
#	make check		all tests
#	make demo		see it work

PREFIX	?= /usr
DESTDIR	?=
FLAVOUR	?= release
CC	?= cc
VERSION	:= 0.1.0

MSGPACK	:= $(shell pkg-config --exists msgpack-c 2>/dev/null && \
		echo msgpack-c || echo msgpack)
PKGS	:= libevent_core libevent_extra jansson yaml-0.1 liburcu liburcu-cds \
	   $(MSGPACK)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lurcu-memb \
	      -lpthread -lm

WARN	:= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	   -Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wno-unused-parameter \
	   -Wformat=2 -Wswitch-enum -Wno-format-nonliteral
ifdef CI
WARN	+= -Werror
endif

OPT_release := -O2 -g -flto=auto -fno-plt -D_FORTIFY_SOURCE=2 \
	       -fstack-protector-strong -fstack-clash-protection \
	       -fcf-protection
OPT_debug   := -O0 -g3
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer \
	       -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -g -fsanitize=thread
LD_release  := -flto=auto -O2 -pie -Wl,-z,relro,-z,now,-z,noexecstack
LD_debug    :=
LD_asan     := -fsanitize=address,undefined
LD_tsan     := -fsanitize=thread

BUILD	:= build/$(FLAVOUR)
CPPFLAGS += -Isrc -D_GNU_SOURCE -DVERSION='"$(VERSION)"'
CFLAGS_ALL = -std=gnu11 -fPIE $(WARN) $(OPT_$(FLAVOUR)) $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = $(LD_$(FLAVOUR)) $(LDFLAGS)

ROOMS	:= base net http wire config h1 report policy upstream agent exchange \
	   admin daemon
SRC	:= $(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/*.c)))
OBJ	:= $(SRC:%.c=$(BUILD)/%.o)
MAIN	:= $(BUILD)/src/daemon/main.o
# Everything but main(), for the daemon and for tests.
LIB_OBJ	:= $(filter-out $(MAIN),$(OBJ))

all: $(BUILD)/agentproxyd $(BUILD)/agents/denylist $(BUILD)/scripted-agent

$(BUILD)/agentproxyd: $(MAIN) $(LIB_OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

# What agents need: the protocol and the bottom of the house.
AGENT_OBJ := $(filter $(BUILD)/src/base/% $(BUILD)/src/wire/%,$(OBJ))

$(BUILD)/agents/denylist: $(BUILD)/agents/denylist.o $(AGENT_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

$(BUILD)/scripted-agent: $(BUILD)/tests/scripted-agent/scripted-agent.o \
		$(AGENT_OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# ---- unit tests: one program per file -------------------------------------

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT	 := $(UNIT_SRC:%.c=$(BUILD)/%)

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(LIB_OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) -lcmocka

unit: $(UNIT)

clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all unit clean
.SECONDARY:
