//! `[[rule]]`: from typed to meant.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use toml::Spanned;
use weir_shared_maps::{MAX_RULES, SIZE_ENTRIES};

use super::class::code_point;
use super::file::RuleTable;
use super::model::MatchRule;
use super::{PolicyRule, words};
use crate::config::file::IngressTable;
use crate::config::names::VlanId;
use crate::config::typed::{Field, Items, Scalar};
use crate::config::validate::{At, Check};

/// What rules refer to.
pub(in crate::config) struct Named<'a> {
    /// Names of classes, at whichever port.
    pub classes: HashSet<&'a str>,
    /// The devices where packets arrive.
    pub ingress: &'a [IngressTable],
}

impl Check<'_> {
    pub(in crate::config) fn rules(&mut self, tables: &[RuleTable], named: &Named<'_>) -> Vec<MatchRule> {
        if let Some(beyond) = tables.get(MAX_RULES as usize) {
            let rule = PolicyRule::TooMany { what: "[[rule]] tables", most: MAX_RULES as usize };
            self.broken_at(&beyond.place, "class", beyond.span.clone(), rule);
        }
        tables.iter().filter_map(|table| self.match_rule(table, named)).collect()
    }

    fn match_rule(&mut self, table: &RuleTable, named: &Named<'_>) -> Option<MatchRule> {
        let place = &table.place;
        let at = |key| At { place, key };
        self.required(at("class"), &table.class, &table.span, "class = \"voice\"");
        let class = table.class.get().map(|class| class.get_ref().clone());
        self.class_known(at("class"), &table.class, named);
        let protocol = self.list(at("protocol"), &table.protocol, protocol);
        let source_port = self.list(at("source_port"), &table.source_port, port_range);
        let destination_port = self.list(at("destination_port"), &table.destination_port, port_range);
        self.protocols_have_ports(table);
        Some(MatchRule {
            class: class?,
            dscp: self.list(at("dscp"), &table.dscp, |value| {
                let allowed = "a code point's name or a number from 0 to 63";
                code_point(value).ok_or(PolicyRule::Dscp { allowed })
            }),
            vlan: self.list(at("vlan"), &table.vlan, |value| vlan(value, named.ingress)),
            source: self.list(at("source"), &table.source, prefix),
            destination: self.list(at("destination"), &table.destination, prefix),
            protocol,
            source_port,
            destination_port,
            ingress: self.list(at("ingress"), &table.ingress, |value| device(value, named.ingress)),
            size: self.list(at("size"), &table.size, size_range),
            mark: self.list(at("mark"), &table.mark, mark),
        })
    }

    /// Reports a class that no port has.
    pub(in crate::config) fn class_known(&mut self, at: At<'_>, field: &Field<String>, named: &Named<'_>) {
        let Some(class) = field.get() else { return };
        if !named.classes.contains(class.get_ref().as_str()) {
            let mut known: Vec<&str> = named.classes.iter().copied().collect();
            known.sort_unstable();
            let known = format!("; known: {}", known.join(", "));
            self.broken(at, class.span(), PolicyRule::Unknown { what: "class", known });
        }
    }

    /// All values of a key, each checked; `None` where the key is absent.
    pub(in crate::config) fn list<T>(
        &mut self,
        at: At<'_>,
        items: &Items,
        parse: impl Fn(&Scalar) -> Result<T, PolicyRule>,
    ) -> Option<Vec<T>> {
        let Items::Are { values, span } = items else { return None };
        if values.is_empty() {
            self.broken(at, span.clone(), PolicyRule::EmptyList);
        }
        let mut parsed = Vec::new();
        for value in values {
            match parse(value.get_ref()) {
                Ok(value) => parsed.push(value),
                Err(rule) => self.broken(at, value.span(), rule),
            }
        }
        Some(parsed)
    }

    fn protocols_have_ports(&mut self, table: &RuleTable) {
        let with_ports = [&table.source_port, &table.destination_port];
        let Items::Are { values, .. } = &table.protocol else { return };
        if with_ports.iter().all(|items| matches!(items, Items::Absent)) {
            return;
        }
        for value in values {
            if let Ok(number) = protocol(value.get_ref())
                && !words::has_ports(number)
            {
                let rule = PolicyRule::PortsOf { protocol: words::show_protocol(number) };
                self.broken(At { place: &table.place, key: "protocol" }, value.span(), rule);
            }
        }
    }
}

fn protocol(value: &Scalar) -> Result<u8, PolicyRule> {
    let number = match value {
        Scalar::Text(name) => words::protocol(name),
        // 255 is reserved and stands for a protocol that cannot be found.
        Scalar::Number(number) => u8::try_from(*number).ok().filter(|number| *number < 255),
    };
    number.ok_or(PolicyRule::Protocol)
}

fn vlan(value: &Scalar, ingress: &[IngressTable]) -> Result<VlanId, PolicyRule> {
    let id = match value {
        Scalar::Number(id) => VlanId::new(*id).ok_or(PolicyRule::Vlan)?,
        Scalar::Text(_) => return Err(PolicyRule::Vlan),
    };
    let listed = |typed: &Spanned<i64>| *typed.get_ref() == i64::from(id.get());
    if ingress.iter().any(|table| table.vlans.iter().any(listed)) {
        Ok(id)
    } else {
        Err(PolicyRule::VlanNotListed)
    }
}

fn device(value: &Scalar, ingress: &[IngressTable]) -> Result<usize, PolicyRule> {
    let unknown = || {
        let known = super::class::known(ingress.iter().map(|table| &table.device));
        PolicyRule::Unknown { what: "[[ingress]]", known }
    };
    let Scalar::Text(name) = value else { return Err(unknown()) };
    let named = |table: &IngressTable| table.device.get().is_some_and(|device| device.get_ref() == name);
    ingress.iter().position(named).ok_or_else(unknown)
}

/// A prefix as typed: an address, or a network without host bits.
pub(in crate::config) fn prefix(value: &Scalar) -> Result<IpNet, PolicyRule> {
    match value {
        Scalar::Text(text) => parse_prefix(text),
        Scalar::Number(_) => Err(PolicyRule::Prefix),
    }
}

/// An address or a prefix without host bits.
///
/// # Errors
///
/// [`PolicyRule::Prefix`], [`PolicyRule::HostBits`].
pub fn parse_prefix(text: &str) -> Result<IpNet, PolicyRule> {
    let text = text.trim();
    let net = if text.contains('/') {
        text.parse().map_err(|_| PolicyRule::Prefix)?
    } else {
        IpNet::from(text.parse::<std::net::IpAddr>().map_err(|_| PolicyRule::Prefix)?)
    };
    if net.trunc() != net {
        return Err(PolicyRule::HostBits { meant: net.trunc().to_string() });
    }
    Ok(net)
}

fn port_range(value: &Scalar) -> Result<RangeInclusive<u16>, PolicyRule> {
    let port = |number: i64| u16::try_from(number).ok().filter(|port| *port > 0).ok_or(PolicyRule::PortRange);
    match value {
        Scalar::Number(number) => port(*number).map(|port| port..=port),
        Scalar::Text(text) => {
            let number =
                |text: &str| text.trim().parse::<i64>().map_err(|_| PolicyRule::PortRange).and_then(port);
            let (low, high) = match text.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(text)?, number(text)?),
            };
            if low > high { Err(PolicyRule::UpsideDown) } else { Ok(low..=high) }
        }
    }
}

/// 0 is what a packet has that nobody marked.
fn mark(value: &Scalar) -> Result<u32, PolicyRule> {
    match value {
        Scalar::Number(number) => {
            u32::try_from(*number).ok().filter(|mark| *mark > 0).ok_or(PolicyRule::Mark)
        }
        Scalar::Text(_) => Err(PolicyRule::Mark),
    }
}

fn size_range(value: &Scalar) -> Result<RangeInclusive<u32>, PolicyRule> {
    // The last entry of the table stands for all larger packets.
    const MOST: u32 = SIZE_ENTRIES - 1;
    let refuse = || PolicyRule::SizeRange { most: MOST };
    let Scalar::Text(text) = value else { return Err(refuse()) };
    let (low, high) = text.split_once("..").ok_or_else(refuse)?;
    let bound = |text: &str, open: u32| match text.trim() {
        "" => Ok(open),
        digits => digits.parse::<u32>().ok().filter(|bytes| *bytes <= MOST).ok_or_else(refuse),
    };
    if low.trim().is_empty() && high.trim().is_empty() {
        return Err(refuse());
    }
    let (low, high) = (bound(low, 0)?, bound(high, MOST)?);
    if low > high { Err(PolicyRule::UpsideDown) } else { Ok(low..=high) }
}
