//! Reading a driver's TX ring, through offsets that user space resolved from BTF. Nothing is ever written.
//!
//! Every read is `bpf_probe_read_kernel`: an address that has gone stale gives an error or a wrong number, never a
//! fault. Layouts: `include/linux/ptr_ring.h`, `drivers/net/tun.c`, `drivers/net/veth.c`, `drivers/net/virtio_net.c`,
//! `drivers/virtio/virtio_ring.c`, all at v6.18.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use weir_shared_maps::{DRIVER_TUN, DRIVER_VETH, DRIVER_VIRTIO, RingRecipe};

/// Where one ring is.
#[derive(Clone, Copy)]
pub struct Location {
    /// `struct ptr_ring`, or `struct virtqueue`.
    pub ring: u64,
    /// `ptr_ring.queue`, or the used ring.
    pub queue: u64,
    /// Slots.
    pub slots: u32,
}

/// Reads kernel memory at `base + offset`.
#[inline(always)]
pub fn read<T: Copy>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T).ok() }
}

/// Finds ring `index` of `dev`.
#[inline(always)]
pub fn locate(recipe: &RingRecipe, dev: u64, index: u32) -> Option<Location> {
    let private = dev + u64::from(recipe.dev_priv);
    match recipe.driver {
        DRIVER_TUN => {
            let queues: u32 = read(private, recipe.count)?;
            if queues == 0 {
                return None;
            }
            let file: u64 = read(private, recipe.table + 8 * (index % queues))?;
            ptr_ring(recipe, file)
        }
        DRIVER_VETH => {
            let peer: u64 = read(private, recipe.table)?;
            let queues: u32 = read(peer, recipe.count)?;
            if queues == 0 {
                return None;
            }
            let rq: u64 = read(peer + u64::from(recipe.dev_priv), recipe.second)?;
            ptr_ring(recipe, rq + u64::from(recipe.stride) * u64::from(index % queues))
        }
        DRIVER_VIRTIO => {
            let pairs: u16 = read(private, recipe.count)?;
            let pairs = u32::from(pairs);
            if pairs == 0 {
                return None;
            }
            // virtnet_xdp_get_sq: pairs of their own for XDP if there are more pairs than CPUs.
            let pair = if pairs > recipe.cpus {
                let xdp: u16 = read(private, recipe.second)?;
                pairs.wrapping_sub(u32::from(xdp)).wrapping_add(index)
            } else {
                index % pairs
            };
            let queues: u64 = read(private, recipe.table)?;
            let ring: u64 = read(queues + u64::from(recipe.stride) * u64::from(pair), recipe.ring)?;
            let slots: u32 = read(ring, recipe.size)?;
            Some(Location { ring, queue: read(ring, recipe.queue)?, slots })
        }
        _ => None,
    }
}

#[inline(always)]
fn ptr_ring(recipe: &RingRecipe, holder: u64) -> Option<Location> {
    if holder == 0 {
        return None;
    }
    let ring = holder + u64::from(recipe.ring);
    let slots: u32 = read(ring, recipe.size)?;
    Some(Location { ring, queue: read(ring, recipe.queue)?, slots })
}

/// Frames in the ring. `driver` is a constant of the program, so that only one layout's code remains.
#[inline(always)]
pub fn occupancy(driver: u32, recipe: &RingRecipe, at: &Location) -> Option<u32> {
    if at.ring == 0 || at.slots == 0 {
        return None;
    }
    match driver {
        DRIVER_TUN | DRIVER_VETH => {
            let producer: u32 = read(at.ring, recipe.producer)?;
            let consumer: u32 = read(at.ring, recipe.consumer)?;
            if producer >= at.slots || consumer >= at.slots {
                return None;
            }
            if producer > consumer {
                return Some(producer - consumer);
            }
            if producer < consumer {
                return Some(producer + at.slots - consumer);
            }
            // Both at one slot: the ring is empty, or full to the last.
            let slot: u64 = read(at.queue + 8 * u64::from(consumer), 0)?;
            if slot == 0 {
                return Some(0);
            }
            // Unless its slots are elsewhere by now (resized, or the link was down), and what was read is somebody else's memory.
            let queue: u64 = read(at.ring, recipe.queue)?;
            let slot: u64 = read(queue + 8 * u64::from(consumer), 0)?;
            Some(if slot == 0 { 0 } else { at.slots })
        }
        DRIVER_VIRTIO => {
            let free: u32 = read(at.ring, recipe.producer)?;
            let used = at.slots.saturating_sub(free);
            let packed: u8 = read(at.ring, recipe.packed)?;
            if packed != 0 {
                return Some(used);
            }
            // The device is done with these, though the driver has not looked yet.
            let done: u16 = read(at.queue, 2)?;
            let seen: u16 = read(at.ring, recipe.consumer)?;
            Some(used.saturating_sub(u32::from(done.wrapping_sub(seen))))
        }
        _ => None,
    }
}
