//! `[[plan]]`: from typed to meant.

use std::collections::HashMap;

use weir_shared_maps::MAX_PLANS;

use super::PolicyRule;
use super::file::PlanTable;
use super::model::{Plan, PlanRate};
use super::rule::Named;
use crate::config::names::NameError;
use crate::config::port::rate;
use crate::config::rule::Rule;
use crate::config::typed::Field;
use crate::config::units::show_rate;
use crate::config::validate::{At, Check};

/// The plans, and where each name is among them.
pub(in crate::config) struct Plans {
    pub plans: Vec<Plan>,
    pub by_name: HashMap<String, usize>,
}

impl Check<'_> {
    pub(in crate::config) fn plans(&mut self, tables: &[PlanTable], named: &Named<'_>) -> Plans {
        if let Some(beyond) = tables.get(MAX_PLANS as usize) {
            let rule = PolicyRule::TooMany { what: "[[plan]] tables", most: MAX_PLANS as usize };
            self.broken_at(&beyond.place, "name", beyond.span.clone(), rule);
        }
        let mut checked = Plans { plans: Vec::new(), by_name: HashMap::new() };
        for table in tables {
            let plan = self.plan(table, named);
            let Some(name) = table.name.get() else { continue };
            // A plan that is wrong in itself still is what its subscribers mean.
            if checked.by_name.insert(name.get_ref().clone(), checked.plans.len()).is_some() {
                let at = At { place: &table.place, key: "name" };
                self.broken(at, name.span(), PolicyRule::Duplicate { what: "plan" });
            }
            checked.plans.extend(plan);
        }
        checked
    }

    fn plan(&mut self, table: &PlanTable, named: &Named<'_>) -> Option<Plan> {
        let place = &table.place;
        let at = |key| At { place, key };
        self.required(at("name"), &table.name, &table.span, "name = \"gold\"");
        let name = self.parsed(at("name"), &table.name, |name| label("plan", name).map_err(Rule::Policy));
        if table.down.is_absent() && table.up.is_absent() {
            self.broken_at(place, "down", table.span.clone(), PolicyRule::PlanWithoutRate);
        }
        self.class_known(at("class"), &table.class, named);
        Some(Plan {
            down: self.plan_rate(place, ("down", &table.down), ("down_ceil", &table.down_ceil)),
            up: self.plan_rate(place, ("up", &table.up), ("up_ceil", &table.up_ceil)),
            burst: self.burst_of_frame(at("burst"), &table.burst),
            class: table.class.get().map(|class| class.get_ref().clone()),
            name: name?,
        })
    }

    fn plan_rate(
        &mut self,
        place: &str,
        (rate_key, rate_field): (&'static str, &Field<String>),
        (ceil_key, ceil_field): (&'static str, &Field<String>),
    ) -> Option<PlanRate> {
        if let (true, Some(ceil)) = (rate_field.is_absent(), ceil_field.get()) {
            let at = At { place, key: ceil_key };
            self.broken(at, ceil.span(), PolicyRule::CeilWithoutRate { rate: rate_key });
        }
        let guaranteed = self.parsed(At { place, key: rate_key }, rate_field, rate);
        let ceil = self.parsed(At { place, key: ceil_key }, ceil_field, |text| {
            let ceil = rate(text)?;
            match guaranteed {
                Some(rate) if ceil < rate => {
                    Err(Rule::Policy(PolicyRule::CeilBelowRate { rate: show_rate(rate) }))
                }
                Some(_) | None => Ok(ceil),
            }
        });
        guaranteed.map(|rate| PlanRate { rate, ceil: ceil.unwrap_or(rate) })
    }
}

/// A name that people choose freely: 1 to 64 bytes without control characters.
pub(in crate::config) fn label(what: &'static str, name: &str) -> Result<String, PolicyRule> {
    const MOST: usize = 64;
    let error = match name {
        "" => Some(NameError::Empty),
        _ if name.len() > MOST => Some(NameError::TooLong { most: MOST, has: name.len() }),
        _ => name.chars().find(|c| c.is_control()).map(|found| NameError::Character { found }),
    };
    match error {
        Some(error) => Err(PolicyRule::Name { what, error }),
        None => Ok(name.to_owned()),
    }
}
