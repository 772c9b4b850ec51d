//! The devmap and TC programs of a port and the ring observer (one object, since they share state and the batch scratch).
//!
//! `program` runs right before the TX ring, `observer` right after it, on the same CPU in the same softirq: a per-CPU
//! value is a correct lock-free channel between them (`kernel/bpf/devmap.c`, `bq_xmit_all`, at v6.18). Minimum
//! kernel 5.14.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros expand to undocumented functions")]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the BPF target has no other atomics")]

mod atomics;
mod cell;
mod charge;
mod classes;
mod events;
mod frame;
mod maps;
mod observer;
mod policy;
mod program;
mod renew;
mod ring;
mod skb;
mod stack;
mod steps;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
