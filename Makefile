# SPDX-License-Identifier: GPL-2.0
#
# Builds hvmod.ko, with the hvcore image inside, and hvctl. What needs more than
# this machine has runs in the lab: see `make help`.

KDIR   ?= /lib/modules/$(shell uname -r)/build
RUSTC  ?= rustc
CARGO  ?= cargo
PREFIX ?= /usr/local
KERNEL ?=

build  := $(CURDIR)/build
target := x86_64-unknown-linux-gnu
enter   = $(CURDIR)/selftests/lab/enter $(if $(KERNEL),--kernel $(KERNEL)) $(1) --

# One lab root for all: what is built in it must not meet what this machine built.
ifeq ($(IN_LAB),)
module-out := $(build)/kernel$(if $(HVMOD_DEBUG),-debug)
cargo-out  := $(build)/cargo
else
module-out := $(build)/lab/kernel$(if $(KERNEL),-$(KERNEL))$(if $(HVMOD_DEBUG),-debug)
cargo-out  := $(build)/lab/cargo
endif

.PHONY: all module hvctl install clean help
.PHONY: lab demo test bench soak fuzz mutants
.PHONY: fmt fmt-check clippy tcb

ifneq ($(LAB),)
# Everything that compiles, inside the lab's Debian 13, whose KDIR is the kernel
# that it boots.
all module hvctl clippy:
	+@$(call enter) $(MAKE) --no-print-directory LAB= IN_LAB=1 KERNEL=$(KERNEL) HVMOD_DEBUG=$(HVMOD_DEBUG) $@

# For that kernel; the lab's own root is no place for it.
install:
	@[ -n "$(DESTDIR)" ] || { echo "hvmod: name a directory to install into (DESTDIR=...)" >&2; exit 1; }
	@mkdir -p "$(DESTDIR)"
	+@$(call enter,--bind "$(abspath $(DESTDIR))") $(MAKE) --no-print-directory LAB= IN_LAB=1 \
		KERNEL=$(KERNEL) DESTDIR="$(abspath $(DESTDIR))" PREFIX="$(PREFIX)" $@
else

all: module hvctl

module:
	@hvmod/check-kdir "$(KDIR)" "$(RUSTC)"
	+@$(MAKE) --no-print-directory -C "$(KDIR)" M=$(CURDIR) MO=$(module-out) RUSTC="$(RUSTC)" $(kbuild-flags) modules
	@install -m 644 $(module-out)/hvmod/hvmod.ko $(build)/hvmod$(if $(HVMOD_DEBUG),-debug).ko

# Static, so that it runs in any root and initramfs.
hvctl:
	@command -v $(CARGO) >/dev/null || { echo "hvmod: hvctl is built with cargo, and there is no $(CARGO):" \
		"install cargo 1.85 or later, or let the lab build it: make lab, then make LAB=1" >&2; exit 1; }
	@mkdir -p $(build)
	+@RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" $(CARGO) build --release --locked \
		--manifest-path hvctl-user/Cargo.toml --target $(target) --target-dir $(cargo-out) -p hvctl
	@install -m 755 $(cargo-out)/$(target)/release/hvctl $(build)/hvctl

clippy:
	@hvmod/check-kdir "$(KDIR)" "$(RUSTC)"
	+@$(MAKE) --no-print-directory -C "$(KDIR)" M=$(CURDIR) MO=$(module-out)-clippy RUSTC="$(RUSTC)" CLIPPY=1 KRUSTFLAGS=-Dwarnings modules
	+@cd rust && $(CARGO) clippy --all-targets --target-dir $(cargo-out) -- -D warnings -A clippy::precedence
	+@cd hvctl-user && $(CARGO) clippy --all-targets --target-dir $(cargo-out) --locked -- -D warnings -A clippy::precedence

# Headers of a distribution have no key to sign with, and no System.map, without which kbuild
# leaves out depmod.
module-root = $(or $(INSTALL_MOD_PATH),$(DESTDIR))

install: module hvctl
	+@$(MAKE) --no-print-directory -C "$(KDIR)" M=$(CURDIR) MO=$(module-out) RUSTC="$(RUSTC)" \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=) \
		INSTALL_MOD_PATH="$(module-root)" modules_install
	@[ -n "$(module-root)" ] || PATH="$$PATH:/sbin:/usr/sbin" depmod "$$(cat "$(KDIR)/include/config/kernel.release")"
	install -D -m 755 $(build)/hvctl $(DESTDIR)$(PREFIX)/bin/hvctl
	install -D -m 644 hvctl-user/hvctl/man/hvctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/hvctl.1
	install -D -m 644 include/uapi/linux/hvmod.h $(DESTDIR)$(PREFIX)/include/linux/hvmod.h

endif

clean:
	rm -rf $(build) hvctl-user/target rust/target rust/*/target

lab:
	selftests/lab/build $(if $(KERNEL),--kernel $(KERNEL))

# Python, which a bare Debian does not have.
demo test bench mutants soak fuzz: tools
.PHONY: tools
tools:
	@selftests/tools

demo test bench mutants:
	@selftests/$@

# PART: names of tests, as selftests/test --list has them.
soak:
	@selftests/soak $(PART)

fuzz:
	@selftests/fuzz $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) $(TARGET)

# The kernel's settings (.rustfmt.toml in its tree).
rustfmt := rustfmt --edition 2021 --config newline_style=Unix

fmt-check: check := --check
fmt fmt-check:
	@command -v rustfmt >/dev/null || { echo "hvmod: there is no rustfmt here: install it, or use" \
		"the lab's: selftests/lab/enter -- make $@" >&2; exit 1; }
	@$(rustfmt) $(check) hvmod/hvmod_main.rs
	@for workspace in rust rust/fuzz/libfuzzer hvctl-user hvctl-user/fuzz; do \
		(cd $$workspace && $(CARGO) fmt $(check)) || exit; done

# The trusted core: its lines, what is unsafe in it, and its code; fails above its limits.
tcb:
	@rust/hvcore/tcb

help:
	@echo 'Build:'
	@echo '  make                  hvmod.ko for the running kernel, and hvctl, into build/'
	@echo '  make KDIR=DIR         for the kernel that was built in DIR'
	@echo '  make lab              build the lab: Debian 13, its kernel, an emulated machine with VMX'
	@echo '  make LAB=1            build in the lab, for its kernel (KERNEL=7.2: another series)'
	@echo '  make install          the module, hvctl and its man page (PREFIX=, DESTDIR=, LAB=1)'
	@echo '  make HVMOD_DEBUG=1 module'
	@echo '                        hvmod-debug.ko, which fails on demand: for tests only'
	@echo '  make clean            remove what was built here; the lab stays'
	@echo
	@echo 'Try, in the lab, with nothing else to prepare:'
	@echo '  make demo             a stock kernel as a guest under a stock kernel'
	@echo '  make test             all tests (some of them: selftests/test NAME...)'
	@echo '  make bench            the cost of exits, beside that of KVM'
	@echo '  make soak             the same tests for hours (PART="fuzz rounds": only these)'
	@echo '  make fuzz             fuzz hvcore, and the emulator of hvctl, here (TARGET=, RUNS=, SEED=)'
	@echo '  make mutants          without this protection and that: tests must fail'
	@echo
	@echo 'Develop:'
	@echo '  make fmt, fmt-check   rustfmt with the settings of the kernel'
	@echo '  make clippy           (LAB=1: with the toolchain of the lab)'
	@echo '  make tcb              size of the trusted core, against rust/hvcore/limits'
	@echo
	@echo 'selftests/test --list names the tests, selftests/lab/README.md explains the lab.'
