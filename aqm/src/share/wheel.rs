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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareParams {
    /// The finest buckets are `2^grain_shift` bytes per unit of weight wide; clamped to 6 to 12.
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
    let grain = if params.grain_shift < GRAIN_MIN {
        GRAIN_MIN
    } else if params.grain_shift > GRAIN_MAX {
        GRAIN_MAX
    } else {
        params.grain_shift
    };
    FRACTION + grain + GROWTH_SHIFT * (level & (LEVELS - 1))
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
    for level in 0..LEVELS - 1 {
        // Bucket numbers wrap where the service does.
        let shift = level_shift(params, level);
        let slots = (edge_of(finish, shift).wrapping_sub(edge_of(service, shift))) >> shift;
        if slots < SLOTS as u64 {
            return level;
        }
    }
    LEVELS - 1
}

/// For each level with tags in it: where its first and its last occupied bucket end.
#[inline(always)]
pub(super) fn level_edges(
    params: &ShareParams,
    service: u64,
    occupied: u64,
) -> [Option<(u64, u64)>; LEVELS as usize] {
    let mut edges = [None; LEVELS as usize];
    for (level, edge) in (0..LEVELS).zip(edges.iter_mut()) {
        let slots = (occupied >> (level * SLOTS)) as u16;
        if slots == 0 {
            continue;
        }
        let shift = level_shift(params, level);
        let current = (service >> shift) as u32 & (SLOTS - 1);
        let from_current = slots.rotate_right(current);
        let first = from_current.trailing_zeros() as u64;
        let last = (u16::BITS - 1).wrapping_sub(from_current.leading_zeros()) as u64;
        let base = edge_of(service, shift);
        *edge = Some((base.wrapping_add(first << shift), base.wrapping_add(last << shift)));
    }
    edges
}
