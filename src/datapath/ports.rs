//! The ports in the maps, before any program can read them.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError},
};
use weir_shared_maps::{
    DRIVER_TUN, DRIVER_VIRTIO, PortConfig, PortRoute, PortState, ROUTE_SHARED_RING, RingRecipe, RingState,
    names,
};
use zerocopy::FromZeros;

use super::{Error, Result, planned::Planned};
use crate::config::encode::{PortFacts, port_route};

/// Writes routes, configs and recipes, and the rings' first state, before any program can read them.
pub(super) fn write(ebpf: &mut Ebpf, planned: &[Planned<'_>], encoded: &[PortConfig]) -> Result<()> {
    // Borrowed, not taken: the programs of this object are loaded after this and refer to the maps.
    let mut maps: HashMap<_, _> = ebpf.maps_mut().collect();
    let mut routes: Array<&mut MapData, PortRoute> = borrow(&mut maps, names::MAP_ROUTES)?;
    let mut configs: Array<&mut MapData, PortConfig> = borrow(&mut maps, names::MAP_PORTS)?;
    let mut recipes: Array<&mut MapData, RingRecipe> = borrow(&mut maps, names::MAP_RECIPES)?;
    let mut states: Array<&mut MapData, PortState> = borrow(&mut maps, names::MAP_PORT_STATE)?;
    let mut rings: Array<&mut MapData, RingState> = borrow(&mut maps, names::MAP_RINGS)?;
    for (index, (planned, config)) in planned.iter().zip(encoded).enumerate() {
        let index = index as u32;
        configs.set(index, *config, 0).map_err(Error::map(names::MAP_PORTS))?;
        recipes.set(index, planned.recipe, 0).map_err(Error::map(names::MAP_RECIPES))?;
        states.set(index, PortState::new_zeroed(), 0).map_err(Error::map(names::MAP_PORT_STATE))?;
        for ring in 0..planned.facts.rings_max {
            let mut state = RingState::new_zeroed();
            state.slots = planned.facts.ring_slots;
            if let Some(pace) = weir_egress::pace_from_map(config) {
                let mut drain = weir_egress::drain_from_map(&state.drain);
                drain.seed(pace);
                state.drain = weir_egress::drain_to_map(&drain);
                state.all = state.drain;
            }
            rings.set(planned.facts.ring_base + ring, state, 0).map_err(Error::map(names::MAP_RINGS))?;
        }
        let route = PortRoute {
            flags: route_flags(&planned.recipe, &planned.facts),
            ..port_route(index, planned.port, &planned.facts)
        };
        routes.set(planned.facts.ifindex, route, 0).map_err(Error::map(names::MAP_ROUTES))?;
    }
    Ok(())
}

/// `ROUTE_*` of a port. Where a device has several rings, or rings set apart for XDP, the stack's frames enter others than
/// redirected ones; on veth they enter the ring only where they can be aggregated (docs/observer.md).
fn route_flags(recipe: &RingRecipe, facts: &PortFacts) -> u8 {
    let shared = match recipe.driver {
        DRIVER_TUN => facts.rings == 1,
        // With one CPU a second pair would be set apart.
        DRIVER_VIRTIO => facts.rings == 1 && recipe.cpus > 1,
        _ => false,
    };
    if shared { ROUTE_SHARED_RING } else { 0 }
}

/// A typed view of one of an object's maps; each can be borrowed once.
fn borrow<'a, T>(maps: &mut HashMap<&str, &'a mut Map>, name: &'static str) -> Result<T>
where
    T: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = maps.remove(name).ok_or(Error::MissingPart { object: "shared", part: name })?;
    T::try_from(map).map_err(Error::map(name))
}
