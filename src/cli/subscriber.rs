//! `weir status --subscriber`: one subscriber, as the maps have it.

use std::io::Write;

use serde::Serialize;

use super::Error;
use super::status::{bits, print_json};
use crate::config::decode::RunningPlan;
use crate::datapath::Reader;

/// What is known of it.
#[derive(Serialize)]
struct Subscriber {
    name: String,
    index: usize,
    prefixes: Vec<String>,
    plan: String,
    rates: RunningPlan,
}

/// Shows the subscriber with this name or address.
pub(super) fn run(instance: &str, asked: &str, json: bool, out: &mut impl Write) -> Result<(), Error> {
    let reader = Reader::open(instance)?;
    let roster = reader.roster()?;
    let (index, member) =
        roster.find(asked).ok_or_else(|| Error::NoSubscriber { asked: asked.to_owned() })?;
    let shown = Subscriber {
        name: member.name.clone(),
        index,
        prefixes: member.prefixes.iter().map(ToString::to_string).collect(),
        plan: roster.plans.get(member.plan).and_then(Option::as_deref).unwrap_or("-").to_owned(),
        rates: reader.plan(member.plan as u32)?,
    };
    if json {
        return Ok(print_json(&shown, out)?);
    }
    let direction = |rates: Option<(u64, u64)>| match rates {
        Some((rate, ceil)) => format!("{}, up to {}", bits(rate), bits(ceil)),
        None => "not limited".to_owned(),
    };
    writeln!(out, "subscriber {} (index {})", shown.name, shown.index)?;
    writeln!(out, "prefixes {}", shown.prefixes.join(" "))?;
    writeln!(
        out,
        "plan {}: down {}; up {}",
        shown.plan,
        direction(shown.rates.down_bps),
        direction(shown.rates.up_bps)
    )?;
    Ok(())
}
