//! Where a driver keeps its TX ring: byte offsets from the kernel's and its modules' BTF.
//!
//! Rust programs have no CO-RE relocations, so user space resolves the offsets and hands them over in a map. Minimum
//! kernel: 5.4 for BTF, 5.11 for BTF of modules. Where a type or member is missing there is no recipe, and the port
//! runs on its virtual queue.

use std::path::Path;

use btf_rs::{Btf, Type};
use thiserror::Error;
use weir_shared_maps::{DRIVER_NONE, DRIVER_TUN, DRIVER_VETH, DRIVER_VIRTIO, RingRecipe};

/// Why there is no recipe.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// No BTF at all.
    #[error("the kernel has no BTF at {path}: {reason}")]
    NoBtf {
        /// Where it was looked for.
        path: String,
        /// What happened.
        reason: String,
    },
    /// No type of that name, in the kernel or the modules.
    #[error("BTF has no struct {name}")]
    NoType {
        /// The struct.
        name: String,
    },
    /// The struct has no such member (another kernel's layout).
    #[error("struct {name} has no member {member}")]
    NoMember {
        /// The struct.
        name: String,
        /// The member.
        member: String,
    },
    /// No recipe is known for the driver.
    #[error("no recipe is known for driver {driver}")]
    UnknownDriver {
        /// The driver.
        driver: String,
    },
}

/// BTF of the kernel, and of modules as they are needed.
pub struct KernelTypes {
    kernel: Btf,
}

const BTF_DIR: &str = "/sys/kernel/btf";

impl KernelTypes {
    /// Reads the kernel's BTF.
    ///
    /// # Errors
    ///
    /// [`RecipeError::NoBtf`].
    pub fn load() -> Result<Self, RecipeError> {
        let path = format!("{BTF_DIR}/vmlinux");
        let kernel = Btf::from_file(&path).map_err(|e| RecipeError::NoBtf { path, reason: e.to_string() })?;
        Ok(Self { kernel })
    }

    /// The recipe for `driver`, as `ethtool -i` names it.
    ///
    /// # Errors
    ///
    /// [`RecipeError`]: what is missing.
    pub fn recipe(&self, driver: &str) -> Result<RingRecipe, RecipeError> {
        let mut recipe = self.device()?;
        match driver {
            "tun" => self.tun(&mut recipe)?,
            "veth" => self.veth(&mut recipe)?,
            "virtio_net" => self.virtio(&mut recipe)?,
            other => return Err(RecipeError::UnknownDriver { driver: other.to_owned() }),
        }
        Ok(recipe)
    }

    /// The fields of `struct net_device` that every driver needs.
    ///
    /// # Errors
    ///
    /// [`RecipeError`]: what is missing.
    pub fn device(&self) -> Result<RingRecipe, RecipeError> {
        let device = self.find(None, "net_device")?;
        // Since 6.10 the private area is a member; before, it follows the struct, aligned to NETDEV_ALIGN (32).
        let dev_priv = device.offset("priv").unwrap_or_else(|_| device.size.next_multiple_of(32));
        let mut recipe = RingRecipe {
            driver: DRIVER_NONE,
            dev_priv,
            dev_ifindex: device.offset("ifindex")?,
            dev_net: device.offset("nd_net.net")?,
            net_inum: self.find(None, "net")?.offset("ns.inum")?,
            skb_queue: self.find(None, "sk_buff")?.offset("queue_mapping").unwrap_or(0),
            ..RingRecipe::default()
        };
        // Without them flows return from the stack after a long pause only.
        if self.disciplines(&mut recipe).is_err() {
            recipe.dev_tx = 0;
        }
        Ok(recipe)
    }

    /// Where a device's queueing disciplines say whether anything waits.
    fn disciplines(&self, recipe: &mut RingRecipe) -> Result<(), RecipeError> {
        let (device, queue) = (self.find(None, "net_device")?, self.find(None, "netdev_queue")?);
        let discipline = self.find(None, "Qdisc")?;
        recipe.dev_tx = device.offset("_tx")?;
        recipe.dev_txqs = device.offset("real_num_tx_queues")?;
        recipe.txq_stride = queue.size;
        recipe.txq_qdisc = queue.offset("qdisc")?;
        recipe.qdisc_flags = discipline.offset("flags")?;
        recipe.qdisc_state = discipline.offset("state")?;
        recipe.qdisc_qlen = discipline.offset("q.qlen")?;
        Ok(())
    }

    fn ptr_ring(&self, module: &Module, recipe: &mut RingRecipe) -> Result<(), RecipeError> {
        let ring = self.find(module.as_deref(), "ptr_ring")?;
        recipe.producer = ring.offset("producer")?;
        recipe.consumer = ring.offset("consumer_head")?;
        recipe.size = ring.offset("size")?;
        recipe.queue = ring.offset("queue")?;
        Ok(())
    }

    fn tun(&self, recipe: &mut RingRecipe) -> Result<(), RecipeError> {
        let module = self.module("tun");
        let tun = self.find(module.as_deref(), "tun_struct")?;
        recipe.driver = DRIVER_TUN;
        recipe.table = tun.offset("tfiles")?;
        recipe.count = tun.offset("numqueues")?;
        recipe.ring = self.find(module.as_deref(), "tun_file")?.offset("tx_ring")?;
        self.ptr_ring(&module, recipe)
    }

    fn veth(&self, recipe: &mut RingRecipe) -> Result<(), RecipeError> {
        let module = self.module("veth");
        let private = self.find(module.as_deref(), "veth_priv")?;
        let queue = self.find(module.as_deref(), "veth_rq")?;
        recipe.driver = DRIVER_VETH;
        recipe.table = private.offset("peer")?;
        recipe.second = private.offset("rq")?;
        recipe.count = self.find(None, "net_device")?.offset("real_num_rx_queues")?;
        recipe.stride = queue.size;
        recipe.ring = queue.offset("xdp_ring")?;
        self.ptr_ring(&module, recipe)
    }

    fn virtio(&self, recipe: &mut RingRecipe) -> Result<(), RecipeError> {
        let net = self.module("virtio_net");
        let info = self.find(net.as_deref(), "virtnet_info")?;
        let send = self.find(net.as_deref(), "send_queue")?;
        let core = self.module("virtio_ring");
        let ring = self.find(core.as_deref(), "vring_virtqueue")?;
        recipe.driver = DRIVER_VIRTIO;
        recipe.table = info.offset("sq")?;
        recipe.count = info.offset("curr_queue_pairs")?;
        recipe.second = info.offset("xdp_queue_pairs")?;
        recipe.stride = send.size;
        recipe.ring = send.offset("vq")?;
        recipe.producer = ring.offset("vq.num_free")?;
        recipe.consumer = ring.offset("last_used_idx")?;
        recipe.size = ring.offset("split.vring.num")?;
        recipe.queue = ring.offset("split.vring.used")?;
        recipe.packed = ring.offset("packed_ring").unwrap_or(0);
        recipe.cpus = u32::try_from(aya::util::nr_cpus().map_or(1, |n| n)).unwrap_or(1);
        Ok(())
    }

    /// BTF of a module; `None` if it is built in or has none.
    fn module(&self, name: &str) -> Module {
        let path = Path::new(BTF_DIR).join(name);
        if !path.exists() {
            return None;
        }
        Btf::from_split_file(path, &self.kernel).ok().map(Box::new)
    }

    fn find<'a>(&'a self, module: Option<&'a Btf>, name: &str) -> Result<Layout<'a>, RecipeError> {
        for btf in module.into_iter().chain(Some(&self.kernel)) {
            for found in btf.resolve_types_by_name(name).unwrap_or_default() {
                if let Type::Struct(found) = found
                    && !found.members.is_empty()
                {
                    return Ok(Layout {
                        btf,
                        name: name.to_owned(),
                        size: found.size() as u32,
                        members: found.members,
                    });
                }
            }
        }
        Err(RecipeError::NoType { name: name.to_owned() })
    }
}

type Module = Option<Box<Btf>>;

/// One struct.
struct Layout<'a> {
    btf: &'a Btf,
    name: String,
    size: u32,
    members: Vec<btf_rs::Member>,
}

impl Layout<'_> {
    /// Byte offset of a member, by its path (`nd_net.net`); anonymous structs and unions are looked through.
    fn offset(&self, path: &str) -> Result<u32, RecipeError> {
        let mut members = self.members.clone();
        let mut offset = 0;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let (at, inner) = self
                .member(&members, part, 8)
                .ok_or_else(|| RecipeError::NoMember { name: self.name.clone(), member: path.to_owned() })?;
            offset += at;
            if parts.peek().is_some() {
                members = inner.unwrap_or_default();
            }
        }
        Ok(offset)
    }

    /// Offset and members (if it is a struct or union) of `name`; anonymous members to a depth of `depth`.
    fn member(
        &self,
        members: &[btf_rs::Member],
        name: &str,
        depth: u32,
    ) -> Option<(u32, Option<Vec<btf_rs::Member>>)> {
        for member in members {
            let found = self.btf.resolve_name(member).unwrap_or_default();
            if found == name {
                return Some((member.bit_offset() / 8, self.composite(member)));
            }
            if found.is_empty()
                && depth > 0
                && let Some(inner) = self.composite(member)
                && let Some((at, deeper)) = self.member(&inner, name, depth - 1)
            {
                return Some((member.bit_offset() / 8 + at, deeper));
            }
        }
        None
    }

    /// Members of the struct or union that a member's type is, behind typedefs and qualifiers.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is another crate's and grows; the rest does not matter here"
    )]
    fn composite(&self, member: &btf_rs::Member) -> Option<Vec<btf_rs::Member>> {
        let mut found = self.btf.resolve_chained_type(member).ok()?;
        for _ in 0..8 {
            found = match found {
                Type::Struct(s) | Type::Union(s) => return Some(s.members),
                Type::Typedef(t) => self.btf.resolve_chained_type(&t).ok()?,
                Type::Const(t) | Type::Volatile(t) => self.btf.resolve_chained_type(&t).ok()?,
                _ => return None,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_tun_and_veth_rings_are_found() {
        let types = match KernelTypes::load() {
            Ok(types) => types,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        };
        for driver in ["tun", "veth"] {
            let recipe = types.recipe(driver).unwrap();
            assert!(
                recipe.dev_priv >= 512 && recipe.ring > 0 && recipe.consumer > recipe.producer,
                "{recipe:?}"
            );
            assert!(recipe.txq_stride > recipe.txq_qdisc && recipe.dev_tx != recipe.dev_txqs, "{recipe:?}");
            assert!(recipe.qdisc_qlen > recipe.qdisc_flags && recipe.qdisc_state > 0, "{recipe:?}");
        }
        assert!(matches!(types.recipe("nosuch"), Err(RecipeError::UnknownDriver { .. })));
    }
}
