//! What each device can do for weir, for `weir probe`.

use serde::Serialize;

use super::{Result, features, netdev, prepare::no_target, recipe::KernelTypes};

/// One device.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Its name.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// Runs XDP programs natively; `None` where the kernel does not say (before 6.3).
    pub native_xdp: Option<bool>,
    /// Takes redirected frames as it is now.
    pub redirect_target: Option<bool>,
    /// Why it cannot be made a redirect target, so that `mode = "auto"` is `tc`; `None` where it is `policer`.
    pub tc_because: Option<String>,
    /// Id of an XDP program on it.
    pub program: Option<u32>,
    /// TX queues in use.
    pub tx_queues: Option<u32>,
    /// Whether the TX ring can be read, or why not.
    pub ring: std::result::Result<(), String>,
}

/// Looks at the devices of the calling thread's namespace; all of them, or those named.
///
/// # Errors
///
/// [`super::Error::NoSuchDevice`] for a name that does not exist; netlink failures.
pub fn probe(names: &[String]) -> Result<Vec<Probe>> {
    let devices = if names.is_empty() {
        netdev::all()?
    } else {
        names.iter().map(|name| netdev::by_name(name)).collect::<Result<_>>()?
    };
    let types = KernelTypes::load();
    devices
        .into_iter()
        .map(|device| {
            let features = features::xdp_features(device.ifindex)?;
            let ring = match &types {
                Ok(types) => types.recipe(&device.driver).map(drop).map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            Ok(Probe {
                native_xdp: features.map(features::XdpFeatures::native),
                redirect_target: features.map(features::XdpFeatures::is_target),
                tc_because: no_target(&device)?,
                program: device.xdp,
                tx_queues: features::queues(device.ifindex)?.map(|q| q.tx),
                ring,
                device: device.name,
                driver: device.driver,
            })
        })
        .collect()
}

/// Why `mode = "auto"` would be `tc` on a device; `None` where it would be `policer`.
///
/// # Errors
///
/// [`super::Error::NoSuchDevice`]; netlink failures.
pub fn mode_of(device: &str) -> Result<Option<String>> {
    no_target(&netdev::by_name(device)?)
}
