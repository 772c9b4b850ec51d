//! The geometry of the wheel: which bucket a finish tag falls into, and where buckets end.

/// Bits of fraction of a byte.
pub(super) const FRACTION: u32 = 16;
/// Levels of the wheel.
pub(super) const LEVELS: u32 = 4;
/// Buckets of a level.
const SLOTS: u32 = 16;
/// Buckets of all levels.
pub const BUCKETS: usize = (LEVELS * SLOTS) as usize;
/// A level's buckets are `2^GROWTH_SHIFT` times as wide as those of the level below.
pub const GROWTH_SHIFT: u32 = 3;
/// The largest weight of a queue.
pub const WEIGHT_MAX: u32 = 4096;

/// Configuration of a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareParams {
    /// The finest buckets are `2^grain_shift` bytes per unit of weight wide; 6 to 12, as [`ShareParams::for_horizon`] gives.
    pub grain_shift: u32,
}

impl ShareParams {
    /// The width of the finest buckets, in bytes per unit of weight.
    pub const fn grain(&self) -> u64 {
        1 << (level_shift(self, 0) - FRACTION)
    }

    /// How many bytes per unit of weight a queue can hold: 7,680 grains.
    pub const fn horizon(&self) -> u64 {
        horizon(self) >> FRACTION
    }

    /// The finest wheel that has room for `bytes` per unit of weight, or the widest one.
    pub const fn for_horizon(bytes: u64) -> Self {
        let mut params = Self { grain_shift: GRAIN_MIN };
        while params.grain_shift < GRAIN_MAX && params.horizon() < bytes {
            params.grain_shift += 1;
        }
        params
    }
}

/// Narrower, and every packet would be a step.
const GRAIN_MIN: u32 = 6;
/// Wider, and a bucket's sum could exceed 64 bits: 2^(12 + 16 + 9) wide, weights up to 2^26 in it.
const GRAIN_MAX: u32 = 12;

/// Tags in one bucket, summed up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Sum of their weights.
    pub weight: u64,
    /// Sum of `weight * (end of the bucket - finish)`, fixed point.
    pub slack: u64,
}

impl Bucket {
    /// No tags.
    pub const EMPTY: Self = Self { weight: 0, slack: 0 };
}

/// Bits by which a fixed-point service is shifted to give a level's bucket number.
#[inline(always)]
pub(super) const fn level_shift(params: &ShareParams, level: u32) -> u32 {
    FRACTION + (params.grain_shift & 15) + GROWTH_SHIFT * (level & (LEVELS - 1))
}

/// The distance up to which a tag finds a bucket, wherever in its first bucket the service stands.
#[inline(always)]
pub(super) const fn horizon(params: &ShareParams) -> u64 {
    ((SLOTS - 1) as u64) << level_shift(params, LEVELS - 1)
}

/// Where the bucket ends that `at` lies in.
#[inline(always)]
pub(super) const fn edge_of(at: u64, shift: u32) -> u64 {
    (at >> (shift & 63)).wrapping_add(1) << (shift & 63)
}

/// The bucket that `at` lies in, and its bit in the map of occupied ones.
#[inline(always)]
pub(super) const fn index(at: u64, level: u32, shift: u32) -> (usize, u64) {
    let slot = (at >> (shift & 63)) as u32 & (SLOTS - 1);
    let index = ((level & (LEVELS - 1)) * SLOTS) | slot;
    (index as usize, 1 << index)
}

/// The finest level whose buckets from `service` on reach `finish`.
#[inline(always)]
pub(super) fn level_for(params: &ShareParams, service: u64, finish: u64) -> u32 {
    let mut level = 0;
    for finer in 0..LEVELS - 1 {
        // Bucket numbers wrap where the service does; within the horizon they are less than 2^13 apart.
        let shift = level_shift(params, finer);
        let slots = (edge_of(finish, shift).wrapping_sub(edge_of(service, shift))) >> shift;
        // One if the level has fewer slots than that. No comparison: BPF's verifier would follow each outcome to the end.
        level += (slots.wrapping_add((1 << 13) - SLOTS as u64) >> 13) as u32 & 1;
    }
    level
}

/// How far the end of the first occupied bucket from `service` on is; 0 if none is occupied.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn first_edge(params: &ShareParams, service: u64, occupied: u64) -> u64 {
    if occupied == 0 {
        return 0;
    }
    // Further than any edge. Not a constant, for which BPF's verifier would follow each level's comparison apart.
    let mut nearest = u64::MAX >> 1 | service;
    for level in 0..LEVELS {
        let (slots, shift) = from_current(params, service, occupied, level);
        let lowest = slots & slots.wrapping_neg();
        let distance = distance_of(lowest, service, shift);
        if slots != 0 && distance < nearest {
            nearest = distance;
        }
    }
    nearest
}

/// How far the end of the last occupied bucket is; 0 if none is occupied.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn last_edge(params: &ShareParams, service: u64, occupied: u64) -> u64 {
    // As above; what is below every edge cannot be told from no edge.
    let mut furthest = occupied & 1;
    for level in 0..LEVELS {
        let (mut slots, shift) = from_current(params, service, occupied, level);
        slots |= slots >> 1;
        slots |= slots >> 2;
        slots |= slots >> 4;
        slots |= slots >> 8;
        let distance = distance_of(slots ^ slots >> 1, service, shift);
        if slots != 0 && distance > furthest {
            furthest = distance;
        }
    }
    furthest
}

/// A level's occupied buckets, that of `service` lowest, and its shift.
#[inline(always)]
fn from_current(params: &ShareParams, service: u64, occupied: u64, level: u32) -> (u32, u32) {
    let shift = level_shift(params, level);
    let current = (service >> shift) as u32 & (SLOTS - 1);
    let slots = (occupied >> (level * SLOTS)) as u32 & 0xffff;
    ((slots | slots << SLOTS) >> current & 0xffff, shift)
}

/// How far the end of the bucket is that the one bit in `slots` stands for.
#[inline(always)]
fn distance_of(slots: u32, service: u64, shift: u32) -> u64 {
    let position = position_of_bit(slots);
    edge_of(service, shift).wrapping_add(position << shift).wrapping_sub(service)
}

/// Sixteen bits in which each group of four is another one (a de Bruijn sequence).
const SEQUENCE: u32 = 0x09af;
/// For each group of four, where it begins: four bits each.
const POSITIONS: u64 = {
    let (mut positions, mut k) = (0u64, 0u32);
    while k < SLOTS {
        positions |= (k as u64) << (4 * ((SEQUENCE << k & 0xffff) >> 12));
        k += 1;
    }
    positions
};

/// Which bit of sixteen is set, where one is. BPF counts zeros by a search, which is longer.
#[inline(always)]
const fn position_of_bit(bit: u32) -> u64 {
    let group = bit.wrapping_mul(SEQUENCE) >> 12 & 15;
    POSITIONS >> (4 * group) & 15
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn each_bit_of_sixteen_has_its_position() {
        for k in 0..16 {
            assert_eq!(position_of_bit(1 << k), k);
        }
    }

    #[test]
    fn the_nearest_and_the_furthest_edge_are_those_of_a_search_over_all_buckets() {
        let params = ShareParams { grain_shift: 6 };
        let mut random = 7u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (service, occupied) = (random >> 7, random.rotate_left(23) & random & random.rotate_left(40));
            let mut edges = Vec::new();
            for level in 0..LEVELS {
                let shift = level_shift(&params, level);
                for ahead in 0..16u64 {
                    let at = service.wrapping_add(ahead << shift);
                    if occupied & index(at, level, shift).1 != 0 {
                        edges.push(edge_of(at, shift).wrapping_sub(service));
                    }
                }
            }
            assert_eq!(first_edge(&params, service, occupied), edges.iter().copied().min().unwrap_or(0));
            assert_eq!(last_edge(&params, service, occupied), edges.iter().copied().max().unwrap_or(0));
        }
    }
}
