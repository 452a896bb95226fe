# tqfpm: the build. `make help` lists the targets; no configure is needed.
#
# Settings: on the command line (make prefix=/usr), in config.mak (yours), or in config.mak.autogen (./configure's).
#   prefix, sbindir, sysconfdir, libdir, mandir, docdir, datadir, runstatedir, DESTDIR
#   WITH_SYSTEMD=1|0  WITH_TCMALLOC=0|1  WITH_PROFILER=0|1  SANITIZE=address,undefined  V=1 (show commands)
#   WERROR=1 (a warning is an error: for developers and CI; a compiler of tomorrow warns of more)
#   OUT=NAME (everything into build/NAME, so that a second compiler does not touch the first one's files)

prefix      = /usr/local
exec_prefix = $(prefix)
sbindir     = $(exec_prefix)/sbin
libdir      = $(exec_prefix)/lib
sysconfdir  = $(if $(filter /usr,$(prefix)),/etc,$(prefix)/etc)
datadir     = $(prefix)/share
mandir      = $(datadir)/man
docdir      = $(datadir)/doc/tqfpm
runstatedir = $(if $(filter /usr,$(prefix)),/run,$(prefix)/var/run)
localstatedir = $(if $(filter /usr,$(prefix)),/var,$(prefix)/var)

CXX      = g++
CXXFLAGS = -O2 -g
WITH_SYSTEMD  = 1
WITH_TCMALLOC = 0
WITH_PROFILER = 0
SANITIZE =
WERROR =
OUT = $(if $(SANITIZE),san-$(subst $(comma),-,$(SANITIZE)))

-include config.mak.autogen
-include config.mak

VERSION := $(shell sed -n '1s/^tqfpm \([0-9.]*\).*/\1/p' ChangeLog)
comma   := ,
BUILD   := build$(addprefix /,$(OUT))
TQFPM   := $(if $(OUT),$(BUILD)/)tqfpm
LIB     := $(if $(OUT),$(BUILD)/)libtqfpm-template.so
TEST_TMPDIR ?= /tmp

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Wundef $(if $(WERROR),-Werror)
SANFLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
HARDEN   := -fstack-protector-strong -fPIE $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
ALL_CXXFLAGS := -std=c++20 -iquote src -D_GNU_SOURCE -MMD -MP $(WARNINGS) $(HARDEN) $(CPPFLAGS) $(CXXFLAGS) $(SANFLAGS)
ALL_LDFLAGS  := -pie -Wl,-z,relro,-z,now $(LDFLAGS) $(SANFLAGS)
LIBS := -lev -linih -lcap -lfmt -lacl -pthread
ifeq ($(WITH_SYSTEMD),1)
LIBS += -lsystemd
DEFS += -DTQFPM_WITH_SYSTEMD=1
endif
ifeq ($(WITH_TCMALLOC),1)
LIBS += -Wl,--no-as-needed -ltcmalloc_minimal -Wl,--as-needed
endif
ifeq ($(WITH_PROFILER),1)
LIBS += -lprofiler
DEFS += -DTQFPM_WITH_PROFILER=1
endif
# Only sys/paths.cc knows where things are installed.
PATHS = -DTQFPM_VERSION='"$(VERSION)"' -DTQFPM_SYSCONFDIR='"$(sysconfdir)"' -DTQFPM_LIBDIR='"$(libdir)/tqfpm"' \
	-DTQFPM_RUNSTATEDIR='"$(runstatedir)"' -DTQFPM_LOCALSTATEDIR='"$(localstatedir)"' -DTQFPM_PREFIX='"$(prefix)"'

PURE_DIRS    := base config fcgi php pool status trace
PROCESS_DIRS := sys ipc master spawner web workers dispatcher
# Of them, those that unit tests take with a fake loop and fake peers (and not the program's main).
TESTED_DIRS  := sys web workers dispatcher spawner
sources = $(foreach d,$(1),$(wildcard src/$(d)/*.cc))
objects = $(patsubst src/%.cc,$(BUILD)/%.o,$(call sources,$(1)))
PURE_FILES   := master/handover_state
PURE_OBJS    := $(call objects,$(PURE_DIRS)) $(PURE_FILES:%=$(BUILD)/%.o)
PROCESS_OBJS := $(filter-out $(PURE_OBJS),$(call objects,$(PROCESS_DIRS)))
TEST_OBJS    := $(patsubst tests/unit/%.cc,$(BUILD)/tests/%.o,$(wildcard tests/unit/*.cc))
PURE         := $(BUILD)/libtqfpm-pure.a
ALL_SOURCES  := $(call sources,. $(PURE_DIRS) $(PROCESS_DIRS) preload tools) $(wildcard tests/unit/*.cc)
ALL_HEADERS  := $(wildcard src/*/*.h src/*/*.def tests/unit/*.h)

Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $(1)';)

.PHONY: all check check-sanitize unit process lint syntax format demo bench install uninstall clean distclean help docs install-deps FORCE
.DELETE_ON_ERROR:
all: $(TQFPM) $(LIB)

help:
	@echo 'make            build ./tqfpm and ./libtqfpm-template.so (WERROR=1: a warning is an error, as in make check;'
	@echo '                OUT=NAME: into build/NAME)'
	@echo 'make check      install what is missing, build, run all tests (SANITIZE=address,undefined for those builds)'
	@echo 'make check-sanitize  the unit tests with address and undefined behaviour sanitizers'
	@echo 'make unit, make process, make lint  one part of make check (tests/README.md)'
	@echo 'make demo       serve real PHP pages through nginx and show them (KEEP=1 leaves it running)'
	@echo 'make bench      compare with php-fpm in one run, in ratios'
	@echo 'make fuzz       look for inputs that break a parser, SECONDS=60 for each;  make fuzz-corpus: the known ones alone'
	@echo 'make install    into prefix=$(prefix) (DESTDIR= is honoured)'
	@echo 'make format     clang-format'
	@echo 'make docs       man pages and sample configuration from the directive table'

# --- build ----------------------------------------------------------------------------------------------------------
$(TQFPM): $(BUILD)/main.o $(PROCESS_OBJS) $(PURE)
	$(call say,LINK $@)$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(PURE): $(PURE_OBJS)
	$(call say,AR   $@)rm -f $@; ar rcs $@ $^

# A change of flags rebuilds what they reach; what was built strictly is good enough for a build that is not.
FLAGS = $(CXX) $(filter-out -Werror,$(ALL_CXXFLAGS)) $(DEFS)$(if $(WERROR), strict)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); case "$$(cat $@ 2>/dev/null)" in '$(FLAGS)' | '$(FLAGS) strict') ;; *) echo '$(FLAGS)' >$@ ;; esac
$(BUILD)/paths: FORCE
	@mkdir -p $(@D); echo '$(subst ',,$(PATHS))' | cmp -s - $@ || echo '$(subst ',,$(PATHS))' >$@

$(BUILD)/sys/paths.o: DEFS += $(PATHS)
$(BUILD)/sys/paths.o: $(BUILD)/paths
$(BUILD)/%.o: src/%.cc $(BUILD)/flags
	$(call say,CXX  $<)mkdir -p $(@D); $(CXX) $(ALL_CXXFLAGS) $(DEFS) -c -o $@ $<
$(BUILD)/tests/%.o: tests/unit/%.cc $(BUILD)/flags
	$(call say,CXX  $<)mkdir -p $(@D); $(CXX) $(filter-out -Wundef,$(ALL_CXXFLAGS)) -iquote tests/unit -c -o $@ $<

# The preload library: libc alone, never sanitized (it is loaded into php-cgi).
TEMPLATE_SRCS := $(wildcard src/preload/*.cc)
TEMPLATE_CXXFLAGS := -std=c++20 -iquote src -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti \
	-fno-threadsafe-statics -fno-asynchronous-unwind-tables -fno-stack-protector -U_FORTIFY_SOURCE $(WARNINGS)
$(LIB): $(TEMPLATE_SRCS) $(wildcard src/preload/*.h) src/ipc/control.h Makefile
	$(call say,LIB  $@)mkdir -p $(@D); $(CXX) $(TEMPLATE_CXXFLAGS) -shared -nodefaultlibs -Wl,-z,relro,-z,now -Wl,--no-undefined -o $@ $(TEMPLATE_SRCS) -lc -ldl

$(BUILD)/gendoc: $(BUILD)/tools/gendoc.o $(PURE)
	$(call say,LINK $@)$(CXX) $(ALL_LDFLAGS) -o $@ $^ -linih -lfmt

# --- tests ----------------------------------------------------------------------------------------------------------
$(BUILD)/unit-tests: $(TEST_OBJS) $(call objects,$(TESTED_DIRS)) $(PURE)
	$(call say,LINK $@)$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lgtest -lgtest_main -lpthread

install-deps:
	contrib/install-deps

# One job for each processor where make was not told otherwise.
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
check: install-deps
	$(MAKE) $(JOBS) WERROR=1 all $(BUILD)/unit-tests $(BUILD)/gendoc $(if $(OUT),,fuzz-build)
	tests/run $(BUILD) $(TQFPM)

# The sanitizers watch the unit tests; make check SANITIZE=address,undefined lets them watch the process tests, too.
check-sanitize: install-deps
	$(MAKE) $(JOBS) WERROR=1 SANITIZE=address,undefined CXXFLAGS='-O1 -g1' build/san-address-undefined/unit-tests
	tests/run build/san-address-undefined - unit
unit: $(BUILD)/unit-tests
	$(BUILD)/unit-tests --gtest_brief=1
process: all
	tests/run $(BUILD) $(TQFPM) process
lint: $(BUILD)/gendoc $(PURE)
	tests/lint/run $(BUILD)
# Every source through a compiler's front, where most warnings are made: for a second compiler (make syntax CXX=clang++ WERROR=1).
syntax:
	@printf '%s\n' $(ALL_SOURCES) | xargs -P "$$(nproc)" -I @ $(CXX) $(filter-out -MMD -MP -Wundef,$(ALL_CXXFLAGS)) $(DEFS) $(PATHS) \
		-iquote tests/unit -fsyntax-only @
format:
	clang-format -i $(ALL_SOURCES) $(filter %.h,$(ALL_HEADERS)) $(wildcard tests/fuzz/*.cc tests/fuzz/*.h)

docs: $(BUILD)/gendoc
	$(BUILD)/gendoc --man >man/tqfpm.conf.5.new && mv man/tqfpm.conf.5.new man/tqfpm.conf.5
	$(BUILD)/gendoc --sample >etc/tqfpm.d/www.conf.default.new && mv etc/tqfpm.d/www.conf.default.new etc/tqfpm.d/www.conf.default
	$(BUILD)/gendoc --directives >man/php-fpm-directives.md.new && mv man/php-fpm-directives.md.new man/php-fpm-directives.md

demo: install-deps
	$(MAKE) $(JOBS) all
	contrib/demo $(if $(KEEP),--keep)
bench: install-deps
	$(MAKE) $(JOBS) all
	tests/bench/run

# --- fuzzing --------------------------------------------------------------------------------------------------------
# libFuzzer is clang's; everything that a target links is compiled by it, into a folder of its own.
FUZZ       := build/fuzz
FUZZ_CXX   := clang++
FUZZ_NAMES := $(patsubst tests/fuzz/%_fuzz.cc,%,$(wildcard tests/fuzz/*_fuzz.cc))
FUZZ_BINS  := $(FUZZ_NAMES:%=$(FUZZ)/bin/%)
FUZZ_FLAGS := -std=c++20 -iquote src -iquote tests/fuzz -iquote tests/unit -D_GNU_SOURCE -MMD -MP $(WARNINGS) -O1 -g \
	-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_OBJS  := $(PURE_OBJS:$(BUILD)/%=$(FUZZ)/%)
FUZZ_PURE  := $(FUZZ)/libtqfpm-pure.a
SECONDS    = 60

.PHONY: fuzz fuzz-build fuzz-corpus fuzz-merge
fuzz-build: $(FUZZ_BINS)
# Each target for SECONDS, one after the other; what it finds is kept in $(FUZZ)/found.
fuzz: fuzz-build
	tests/fuzz/run search $(FUZZ) $(SECONDS)
# The stored inputs alone, once.
fuzz-corpus:
	@$(MAKE) $(JOBS) WERROR=1 fuzz-build
	tests/fuzz/run corpus $(FUZZ)
# Adds to the stored inputs what `make fuzz` has found that reaches more.
fuzz-merge: fuzz-build
	tests/fuzz/run merge $(FUZZ)

$(FUZZ)/%.o: src/%.cc
	$(call say,FUZZ $<)mkdir -p $(@D); $(FUZZ_CXX) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<
$(FUZZ)/%_fuzz.o: tests/fuzz/%_fuzz.cc
	$(call say,FUZZ $<)mkdir -p $(@D); $(FUZZ_CXX) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<
$(FUZZ_PURE): $(FUZZ_OBJS)
	$(call say,AR   $@)rm -f $@; ar rcs $@ $^
$(FUZZ)/bin/php_command: $(FUZZ)/spawner/php_command.o
$(FUZZ_BINS): $(FUZZ)/bin/%: $(FUZZ)/%_fuzz.o $(FUZZ_PURE)
	$(call say,LINK $@)mkdir -p $(@D); $(FUZZ_CXX) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(FUZZ_PURE) -linih -lfmt

# --- install --------------------------------------------------------------------------------------------------------
install: all
	install -d $(DESTDIR)$(sbindir) $(DESTDIR)$(libdir)/tqfpm $(DESTDIR)$(mandir)/man8 $(DESTDIR)$(mandir)/man5 \
		$(DESTDIR)$(sysconfdir)/tqfpm.d $(DESTDIR)$(docdir)
	install -m 755 tqfpm $(DESTDIR)$(sbindir)/tqfpm
	install -m 644 libtqfpm-template.so $(DESTDIR)$(libdir)/tqfpm/libtqfpm-template.so
	install -m 644 man/tqfpm.8 $(DESTDIR)$(mandir)/man8/tqfpm.8
	install -m 644 man/tqfpm.conf.5 $(DESTDIR)$(mandir)/man5/tqfpm.conf.5
	install -m 644 README.md ChangeLog LICENSE man/php-fpm-directives.md $(DESTDIR)$(docdir)/
	sed 's|^include = etc/|include = $(sysconfdir)/|' etc/tqfpm.conf >$(DESTDIR)$(sysconfdir)/tqfpm.conf.default
	chmod 644 $(DESTDIR)$(sysconfdir)/tqfpm.conf.default
	install -m 644 etc/tqfpm.d/www.conf.default $(DESTDIR)$(sysconfdir)/tqfpm.d/www.conf.default
uninstall:
	rm -f $(DESTDIR)$(sbindir)/tqfpm $(DESTDIR)$(libdir)/tqfpm/libtqfpm-template.so $(DESTDIR)$(mandir)/man8/tqfpm.8 \
		$(DESTDIR)$(mandir)/man5/tqfpm.conf.5 $(DESTDIR)$(sysconfdir)/tqfpm.conf.default \
		$(DESTDIR)$(sysconfdir)/tqfpm.d/www.conf.default
	rm -rf $(DESTDIR)$(docdir)

clean:
	rm -rf build tqfpm libtqfpm-template.so
distclean: clean
	rm -rf config.mak.autogen configure config.log config.status autom4te.cache

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
