//! The ports on their way to being attached: what their devices are, and how frames get to them.

use weir_shared_maps::{FLAG_TC, PortConfig, RingRecipe};

use super::{
    Error, Result,
    follow::{Followed, facts},
    netdev::{self, Netdev},
    prepare::no_target,
    recipe::KernelTypes,
};
use crate::config::{
    Config, Mode, Port,
    encode::{PortFacts, port_config},
};

/// A port on its way to being attached.
pub(super) struct Planned<'a> {
    pub port: &'a Port,
    pub device: Netdev,
    pub facts: PortFacts,
    pub recipe: RingRecipe,
    pub way: Way,
}

/// How frames that are forwarded get to a port.
pub(super) enum Way {
    /// Redirected by ingress.
    Redirect,
    /// The same, and the kernel's instead if the device turns out to be no target.
    RedirectIfItCan,
    /// Through the kernel's stack, as the file says.
    Kernel,
    /// Through the kernel's stack, since the device is no redirect target.
    KernelBecause(String),
}

impl Planned<'_> {
    pub fn is_target(&self) -> bool {
        match self.way {
            Way::Redirect | Way::RedirectIfItCan => true,
            Way::Kernel | Way::KernelBecause(_) => false,
        }
    }

    /// Why the port is in its mode, where the file left that open.
    pub fn mode_reason(&self) -> Option<String> {
        match &self.way {
            Way::Redirect | Way::Kernel => None,
            Way::RedirectIfItCan => Some("the device is a redirect target".to_owned()),
            Way::KernelBecause(why) => Some(why.clone()),
        }
    }

    /// What was chosen, for people.
    pub fn said(&self) -> Option<String> {
        let chosen = if self.is_target() { "policer" } else { "tc" };
        self.mode_reason().map(|why| format!("port {}: mode = \"{chosen}\": {why}", self.device.name))
    }

    /// The device is no target. With `mode = "auto"` the kernel forwards; else that is the end.
    pub fn give_up(&mut self, error: Error) -> Result<()> {
        match self.way {
            Way::RedirectIfItCan => {
                self.way = Way::KernelBecause(error.to_string());
                Ok(())
            }
            Way::Redirect | Way::Kernel | Way::KernelBecause(_) => Err(error),
        }
    }

    /// The port's entry in the config map, as far as is known before anything is touched.
    pub fn encode(&self) -> Result<PortConfig> {
        let mut config = port_config(self.port, &self.facts)?;
        if !self.is_target() {
            config.flags |= FLAG_TC;
        }
        Ok(config)
    }

    /// What is followed of it while it runs.
    pub fn followed(&self) -> Followed {
        Followed {
            port: self.port.clone(),
            recipe: self.recipe,
            facts: self.facts,
            running: self.device.running,
            gone: false,
        }
    }
}

/// What each port's device is, before anything is touched.
pub(super) fn plan<'a>(
    config: &'a Config,
    blind: bool,
    actions: &mut Vec<String>,
) -> Result<Vec<Planned<'a>>> {
    let types = KernelTypes::load();
    let netns_inum = netdev::namespace()?;
    let mut ring_base = 0;
    let mut planned = Vec::new();
    for port in &config.ports {
        let device = netdev::by_name(port.device.as_str())?;
        let recipe = match &types {
            Ok(types) if blind => types.device(),
            Ok(types) => types.recipe(&device.driver).or_else(|why| {
                actions.push(format!("port {}: the TX ring cannot be read: {why}", device.name));
                types.device()
            }),
            Err(why) => {
                actions.push(format!("port {}: the TX ring cannot be read: {why}", device.name));
                Ok(RingRecipe::default())
            }
        }
        .unwrap_or_default();
        let facts = facts(&device, &recipe, ring_base, netns_inum)?;
        ring_base += facts.rings_max;
        let way = match port.mode {
            Mode::Bottleneck | Mode::Policer => Way::Redirect,
            Mode::Tc => Way::Kernel,
            Mode::Auto => no_target(&device)?.map_or(Way::RedirectIfItCan, Way::KernelBecause),
        };
        planned.push(Planned { port, device, facts, recipe, way });
    }
    Ok(planned)
}
