//! Which map finds a subscriber faster: a hash for each prefix length, or a trie of longest prefixes?
//!
//! A small program draws random addresses among those in the map and looks each up, 16 to a run; the kernel times it
//! (`BPF_PROG_TEST_RUN`). The same program without the lookup is subtracted. Contenders take turns; figures are medians
//! of the rounds. Needs root: `cargo bench --bench lookup`.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use miette::{IntoDiagnostic, Result, ensure};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const HASH: u32 = 1;
const LPM_TRIE: u32 = 11;
const NO_PREALLOC: u32 = 1;
const XDP: u32 = 6;

/// Lookups in one run of the program.
const LOOKUPS: usize = 16;
const RUNS: u32 = 20_000;
const ROUNDS: usize = 31;
/// The first subscriber's address.
const FIRST: u32 = 0x0a80_0000;

/// One command of the `bpf` system call on an attribute, whose layout is that of `union bpf_attr` (include/uapi/linux/bpf.h
/// at v6.18).
fn bpf<A>(command: libc::c_int, attribute: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the callers' attributes have the kernel's layout, and what they point to outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn descriptor(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = RawFd::try_from(fd).into_diagnostic()?;
    // SAFETY: the system call just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A map with `count` addresses; keys of both kinds are an address and 32.
fn map(kind: u32, count: u32) -> Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    }
    let flags = if kind == LPM_TRIE { NO_PREALLOC } else { 0 };
    let mut create = Create { kind, key_size: 8, value_size: 8, max_entries: count, flags };
    let map = descriptor(bpf(MAP_CREATE, &mut create).into_diagnostic()?)?;
    let keys: Vec<[u32; 2]> = (FIRST..FIRST + count).map(|address| key(kind, address.to_be())).collect();
    let values = vec![1_u64; keys.len()];
    #[repr(C)]
    struct Batch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        elem_flags: u64,
        flags: u64,
    }
    let mut batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    bpf(MAP_UPDATE_BATCH, &mut batch).into_diagnostic()?;
    Ok(map)
}

/// The trie wants the length first, weir's hash has it behind the address.
const fn key(kind: u32, address: u32) -> [u32; 2] {
    if kind == LPM_TRIE { [32, address] } else { [address, 32] }
}

/// One instruction: opcode, destination, source, offset, immediate.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: u32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off.cast_unsigned() as u64) << 16
        | (imm as u64) << 32
}

/// Draws addresses and, with a map, looks them up; returns how many it found.
fn program(kind: u32, count: u32, map: Option<&OwnedFd>) -> Result<OwnedFd> {
    let (address_at, length_at) = if kind == LPM_TRIE { (-4, -8) } else { (-8, -4) };
    let mut code = vec![insn(0xb7, 6, 0, 0, 0)];
    for _ in 0..LOOKUPS {
        code.extend([
            insn(0x85, 0, 0, 0, 7),           // call bpf_get_prandom_u32
            insn(0x97, 0, 0, 0, count),       // r0 %= count
            insn(0x07, 0, 0, 0, FIRST),       // r0 += FIRST
            insn(0xdc, 0, 0, 0, 32),          // r0 = htobe32(r0)
            insn(0x63, 10, 0, address_at, 0), // the key, on the stack
            insn(0x62, 10, 0, length_at, 32),
        ]);
        if let Some(map) = map {
            code.extend([
                insn(0x18, 1, 1, 0, map.as_raw_fd().cast_unsigned()), // r1 = map
                0,
                insn(0xbf, 2, 10, 0, 0), // r2 = key
                insn(0x07, 2, 0, 0, (-8_i32).cast_unsigned()),
                insn(0x85, 0, 0, 0, 1), // call bpf_map_lookup_elem
                insn(0x15, 0, 0, 1, 0), // not found: skip the count
            ]);
        }
        code.push(insn(0x07, 6, 0, 0, 1)); // r6 += 1
    }
    code.extend([insn(0xbf, 0, 6, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        insns: u64,
        license: u64,
        log: [u64; 3],
    }
    let license = c"GPL";
    let mut load = Load {
        kind: XDP,
        count: u32::try_from(code.len()).into_diagnostic()?,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 3],
    };
    descriptor(bpf(PROG_LOAD, &mut load).into_diagnostic()?)
}

/// Nanoseconds of one lookup, drawing included.
fn measure(program: &OwnedFd) -> Result<f64> {
    #[repr(C)]
    struct Run {
        program: u32,
        retval: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }
    let packet = [0_u8; 64];
    let mut run = Run {
        program: program.as_raw_fd().cast_unsigned(),
        retval: 0,
        size_in: 64,
        size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat: RUNS,
        duration: 0,
    };
    bpf(PROG_TEST_RUN, &mut run).into_diagnostic()?;
    ensure!(run.retval as usize == LOOKUPS, "{} of {LOOKUPS} addresses were found", run.retval);
    Ok(f64::from(run.duration) / LOOKUPS as f64)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "looking up in maps of the kernel needs root");
    println!("ns per lookup of a random address, median of {ROUNDS} rounds; drawing it is subtracted");
    println!("{:>12} {:>8} {:>8} {:>8}", "subscribers", "drawing", "hash", "trie");
    for count in [10, 1_000, 100_000] {
        let (hash, trie) = (map(HASH, count)?, map(LPM_TRIE, count)?);
        let programs = [
            program(HASH, count, None)?,
            program(HASH, count, Some(&hash))?,
            program(LPM_TRIE, count, Some(&trie))?,
        ];
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (samples, program) in samples.iter_mut().zip(&programs) {
                samples.push(measure(program)?);
            }
        }
        let [drawing, hash, trie] = samples.map(|mut samples| median(&mut samples));
        println!("{count:>12} {drawing:>8.1} {:>8.1} {:>8.1}", hash - drawing, trie - drawing);
    }
    Ok(())
}
