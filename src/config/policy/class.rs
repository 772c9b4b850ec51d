//! `[[port.class]]`: from typed to meant.

use std::collections::HashMap;

use toml::Spanned;
use weir_aqm::{Bytes, Rate};
use weir_shared_maps::MAX_CLASSES;

use super::file::ClassTable;
use super::model::{Class, ColourAction, DscpAction, Fairness};
use super::{PolicyRule, words};
use crate::config::aqm::Algorithms;
use crate::config::back_off::BackOffKeys;
use crate::config::file::PortTable;
use crate::config::model::Algorithm;
use crate::config::names::InstanceName;
use crate::config::port::{FULL_FRAME, rate};
use crate::config::rule::Rule;
use crate::config::typed::{Field, Items, Scalar};
use crate::config::units::{parse_size, show_rate};
use crate::config::validate::{At, Check, choice};

/// What a port's classes come to.
pub(in crate::config) struct Classes {
    /// In order.
    pub classes: Vec<Class>,
    /// Index of the default class; 0 where there are none.
    pub default: usize,
}

impl Check<'_> {
    pub(in crate::config) fn port_classes(
        &mut self,
        table: &PortTable,
        port_rate: Option<Rate>,
        back_off: &BackOffKeys,
    ) -> Classes {
        if let Some(beyond) = table.classes.get(MAX_CLASSES as usize) {
            let rule = PolicyRule::TooMany { what: "classes of a port", most: MAX_CLASSES as usize };
            self.broken_at(&beyond.place, "name", beyond.span.clone(), rule);
        }
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut classes = Vec::new();
        for (index, class) in table.classes.iter().enumerate() {
            let checked = self.class(class, port_rate, back_off);
            if let Some(name) = class.name.get()
                && names.insert(name.get_ref().clone(), index).is_some()
            {
                let at = At { place: &class.place, key: "name" };
                self.broken(at, name.span(), PolicyRule::Duplicate { what: "class" });
            }
            classes.extend(checked);
        }
        self.guarantees(table, &classes, port_rate);
        let last = table.classes.len().saturating_sub(1);
        let default = table.default_class.get().map(|name| (names.get(name.get_ref()).copied(), name));
        let default = match default {
            None => last,
            Some((Some(index), _)) => index,
            Some((None, name)) => {
                let known = known(table.classes.iter().map(|class| &class.name));
                let at = At { place: &table.place, key: "default_class" };
                self.broken(at, name.span(), PolicyRule::Unknown { what: "class", known });
                last
            }
        };
        Classes { classes, default }
    }

    fn class(
        &mut self,
        table: &ClassTable,
        port_rate: Option<Rate>,
        back_off: &BackOffKeys,
    ) -> Option<Class> {
        let place = &table.place;
        let at = |key| At { place, key };
        self.required(at("name"), &table.name, &table.span, "name = \"voice\"");
        let name = self.parsed(at("name"), &table.name, |name| {
            let named = InstanceName::new(name).map(|name| name.to_string());
            named.map_err(|error| Rule::Policy(PolicyRule::Name { what: "class", error }))
        });
        let priority = self.range(
            at("priority"),
            &table.priority,
            (0, 7, ""),
            "0 is served first, 7 last; 4 where nothing is said",
        );
        let weight = self.range(
            at("weight"),
            &table.weight,
            (1, 255, ""),
            "the class's share of spare rate against the other classes of its priority",
        );
        let guaranteed = self.parsed(at("rate"), &table.rate, rate);
        let ceil = self.parsed(at("ceil"), &table.ceil, |text| {
            let ceil = rate(text)?;
            match (guaranteed, port_rate) {
                (Some(rate), _) if ceil < rate => {
                    Err(Rule::Policy(PolicyRule::CeilBelowRate { rate: show_rate(rate) }))
                }
                (_, Some(rate)) if ceil > rate => {
                    Err(Rule::Policy(PolicyRule::CeilAbovePort { rate: show_rate(rate) }))
                }
                _ => Ok(ceil),
            }
        });
        let pfc_priority = self.range(
            at("pfc_priority"),
            &table.pfc_priority,
            (0, 7, ""),
            "the priority whose pause stops the class (IEEE 802.1Q clause 36); 7 less the class's priority where nothing is said",
        );
        let burst = self.burst_of_frame(at("burst"), &table.burst);
        let fairness = self.parsed(at("fairness"), &table.fairness, fairness).unwrap_or(Fairness::None);
        let dscp = self.dscp_action(at("dscp"), &table.dscp);
        let aqm = table.aqm.as_ref().map(|aqm| self.aqm(place, aqm, Algorithms::OfClass));
        let ecn = table.ecn.get();
        if let (Some(ecn), Some(Algorithm::None)) = (ecn, aqm.and_then(|aqm| aqm.algorithm)) {
            self.problems.push(self.source.value_problem(place, "ecn", ecn.span(), Rule::AqmKeyUnused));
        }
        let policer = table.policer.as_ref().and_then(|policer| self.policer(place, policer));
        let back_off = self.back_off_keys(place, &table.back_off).or(back_off).of_class();
        Some(Class {
            name: name?,
            priority: u32::try_from(priority.unwrap_or(4)).ok()?,
            rate: guaranteed,
            ceil,
            weight: u32::try_from(weight.unwrap_or(1)).ok()?,
            burst,
            fairness,
            dscp,
            aqm,
            ecn: ecn.map(|ecn| *ecn.get_ref()),
            policer,
            pfc_priority: pfc_priority.and_then(|priority| u8::try_from(priority).ok()),
            back_off,
        })
    }

    /// What is guaranteed must be there.
    fn guarantees(&mut self, table: &PortTable, classes: &[Class], port_rate: Option<Rate>) {
        let Some(port_rate) = port_rate else { return };
        let sum = classes
            .iter()
            .filter_map(|class| class.rate)
            .fold(0_u64, |sum, rate| sum.saturating_add(rate.bits_per_second()));
        if sum <= port_rate.bits_per_second() {
            return;
        }
        let (sum, rate) = (show_rate(Rate::from_bits_per_second(sum)), show_rate(port_rate));
        let last =
            table.classes.iter().rev().find_map(|class| Some((&class.place, class.rate.get()?.span())));
        if let Some((place, span)) = last {
            let rule = PolicyRule::GuaranteesAbovePort { sum, rate };
            self.broken(At { place, key: "rate" }, span, rule);
        }
    }

    /// A burst that one full frame passes.
    pub(in crate::config) fn burst_of_frame(&mut self, at: At<'_>, field: &Field<String>) -> Option<Bytes> {
        let least = FULL_FRAME.unsigned_abs();
        self.parsed(at, field, |text| match parse_size(text) {
            Err(error) => Err(Rule::Unit(error, "\"32kb\"")),
            Ok(burst) if burst.get() < least => Err(Rule::BurstTooSmall { least }),
            Ok(burst) if burst.get() > MAX_BURST => Err(Rule::BurstTooLarge),
            Ok(burst) => Ok(burst),
        })
    }

    fn dscp_action(&mut self, at: At<'_>, items: &Items) -> DscpAction {
        const ALLOWED: &str = "\"keep\", \"wash\", a code point's name or a number from 0 to 63";
        let Some(typed) = self.single(at, items) else { return DscpAction::Keep };
        match typed.get_ref() {
            Scalar::Text(word) if word == "keep" => DscpAction::Keep,
            Scalar::Text(word) if word == "wash" => DscpAction::Set(0),
            other @ (Scalar::Text(_) | Scalar::Number(_)) => match code_point(other) {
                Some(value) => DscpAction::Set(value),
                None => {
                    self.broken(at, typed.span(), PolicyRule::Dscp { allowed: ALLOWED });
                    DscpAction::Keep
                }
            },
        }
    }

    /// `yellow` and `red` of a policer; `otherwise` where the key is absent.
    pub(in crate::config) fn colour(
        &mut self,
        at: At<'_>,
        items: &Items,
        otherwise: ColourAction,
    ) -> ColourAction {
        const ALLOWED: &str = "\"pass\", \"drop\", a code point's name or a number from 0 to 63";
        let Some(typed) = self.single(at, items) else { return otherwise };
        match typed.get_ref() {
            Scalar::Text(word) if word == "pass" => ColourAction::Pass,
            Scalar::Text(word) if word == "drop" => ColourAction::Drop,
            other @ (Scalar::Text(_) | Scalar::Number(_)) => match code_point(other) {
                Some(value) => ColourAction::Set(value),
                None => {
                    self.broken(at, typed.span(), PolicyRule::Dscp { allowed: ALLOWED });
                    otherwise
                }
            },
        }
    }

    /// The only value of a key that could hold a list.
    fn single<'t>(&mut self, at: At<'_>, items: &'t Items) -> Option<&'t Spanned<Scalar>> {
        let Items::Are { values, span } = items else { return None };
        match values.as_slice() {
            [one] => Some(one),
            _ => {
                self.broken(at, span.clone(), PolicyRule::OneValue);
                None
            }
        }
    }
}

/// The largest burst: the meters' times stay below 2^31 bytes (`weir_aqm::gcra`).
const MAX_BURST: u64 = 1 << 31;

/// The code point that a name or number stands for.
pub(in crate::config) fn code_point(scalar: &Scalar) -> Option<u8> {
    match scalar {
        Scalar::Text(name) => words::code_point(name),
        Scalar::Number(number) => u8::try_from(*number).ok().filter(|value| *value < 64),
    }
}

/// `; known: a, b`, or nothing.
pub(in crate::config) fn known<'t>(names: impl Iterator<Item = &'t Field<String>>) -> String {
    let names: Vec<&str> = names.filter_map(|name| Some(name.get()?.get_ref().as_str())).take(20).collect();
    if names.is_empty() { String::new() } else { format!("; known: {}", names.join(", ")) }
}

fn fairness(word: &str) -> Result<Fairness, Rule> {
    match word {
        "none" => Ok(Fairness::None),
        "flow" => Ok(Fairness::Flow),
        "src-host" => Ok(Fairness::SourceHost),
        "dst-host" => Ok(Fairness::DestinationHost),
        "host+flow" => Ok(Fairness::HostFlow),
        _ => Err(choice(word, &["none", "flow", "src-host", "dst-host", "host+flow"])),
    }
}
