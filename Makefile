# SPDX-License-Identifier: Apache-2.0
# A thin front for meson and ninja. MODE=dev|asan|ubsan|san|rel builds into
# out/MODE (san: both sanitizers in one), make fuzz into out/fuzz.
MODE ?= dev
OUT := out/$(MODE)
PREFIX ?= /usr/local

SETUP_dev   :=
SETUP_rel   := -Doptimization=3 -Db_lto=false
SETUP_asan  := -Db_sanitize=address -Db_lundef=false
SETUP_ubsan := -Db_sanitize=undefined -Db_lundef=false
SETUP_san   := -Db_sanitize=address,undefined -Db_lundef=false
SETUP_fuzz  := -Dfuzz=true -Db_sanitize=address -Db_lundef=false
CC_fuzz     := clang

.PHONY: all deps demo check check-kvm bench bench-images bench-kvm install format check-format fuzz clean
all: $(OUT)/build.ninja
	ninja -C $(OUT)

$(OUT)/build.ninja: | deps
	$(if $(CC_$(MODE)),CC=$(CC_$(MODE))) meson setup $(OUT) $(SETUP_$(MODE))

deps:
	@tools/install-deps

demo: all
	$(OUT)/cli/supermachine run busybox uname -a

check: all
	tools/run-tests $(OUT)

# MODE=rel is what one would install. DESTDIR is put in front of everything.
install: all
	meson configure $(OUT) -Dprefix=$(PREFIX)
	ninja -C $(OUT)
	meson install -C $(OUT) --no-rebuild

# The KVM engine inside an L1 Linux with emulated SVM; SUITE=smoke runs no Linux in there,
# SUITE=long has all of tests/cli.
check-kvm: all
	@tests/l1/check_kvm.py $(OUT) --suite $(or $(SUITE),quick) || [ $$? = 77 ]

bench: all
	tools/run-bench $(OUT)
	tools/run-bench-vms $(OUT)

bench-images: all
	tools/run-bench-images $(OUT)

bench-kvm: all
	@tests/l1/bench_kvm.py $(OUT)

fuzz:
	$(MAKE) MODE=fuzz out/fuzz/build.ninja
	ninja -C out/fuzz fuzzers
	tools/run-fuzz out/fuzz $(or $(SECONDS_EACH),30)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

check-format:
	@tools/check-format

clean:
	rm -rf out
