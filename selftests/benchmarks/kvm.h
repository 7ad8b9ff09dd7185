/* SPDX-License-Identifier: GPL-2.0 */
#ifndef BENCH_KVM_H
#define BENCH_KVM_H

#include <linux/kvm.h>
#include <stdint.h>

int kvm_create(int *system);
void kvm_map(int vm, int slot, uint64_t gpa, void *memory, uint64_t size);
int kvm_processor(int system, int vm, struct kvm_run **run);

#endif
