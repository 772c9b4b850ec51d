//! What is to be run.

use std::collections::BTreeMap;

use weir_aqm::Nanos;
use weir_sim::Scenario;

use super::contender::contender;
use super::outcome::{Measured, run_of};
use super::scenario::{Kind, Label, scenario};
use crate::experiment::{self, Experiment, ExperimentError, Point};
use crate::report::{Run, Skipped};

/// One run: a combination of swept values, a contender, a seed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Who runs.
    pub contender: String,
    /// What runs.
    pub scenario: Scenario,
    labels: Vec<Label>,
    point: BTreeMap<String, String>,
}

/// All runs of an experiment, in the order of its report.
#[derive(Debug)]
pub struct Jobs {
    /// The runs.
    pub jobs: Vec<Job>,
    /// Contenders whose settings do not fit.
    pub failed: Vec<Skipped>,
}

/// Samples of the ring and of delay are at least this far apart, and at most.
const SAMPLE_MIN: Nanos = Nanos::from_millis(1);
const SAMPLE_MAX: Nanos = Nanos::from_millis(100);
/// Where there is no probe.
const SAMPLE: Nanos = Nanos::from_millis(10);

impl Jobs {
    /// The runs of `experiment`: by combination of swept values, then by contender, then by seed. Only the first seed of an
    /// experiment without sweeps keeps what is measured over time.
    ///
    /// # Errors
    /// [`ExperimentError`] at what the simulator does not have, or at a swept value that breaks a rule.
    pub fn of(experiment: &Experiment) -> Result<Self, Box<ExperimentError>> {
        experiment.check_for_simulator()?;
        let mut jobs = Self { jobs: Vec::new(), failed: Vec::new() };
        for point in experiment.points()? {
            for name in &experiment.contenders {
                jobs.add(experiment, &point, name);
            }
        }
        Ok(jobs)
    }

    fn add(&mut self, experiment: &Experiment, point: &Point, name: &str) {
        // What the command line changed holds for every combination.
        let mut adjusted = point.experiment.clone();
        if adjusted.duration != experiment.duration && !experiment.sweeps("duration") {
            adjusted.set_duration(experiment.duration);
        }
        let prepared = contender(name, &adjusted)
            .and_then(|contender| scenario(&adjusted, contender, experiment.seeds.first));
        let (scenario, labels) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                self.failed.push(Skipped { contender: at(name, point), reason });
                return;
            }
        };
        for seed in experiment.seeds.iter() {
            let mut scenario = Scenario { seed, ..scenario.clone() };
            let drawn = experiment.sweep.is_empty() && seed == experiment.seeds.first;
            scenario.sample = drawn.then(|| sample(&adjusted));
            let point = point.settings.iter().cloned().collect();
            self.jobs.push(Job { contender: name.to_owned(), scenario, labels: labels.clone(), point });
        }
    }
}

impl Job {
    /// Runs it.
    #[must_use]
    pub fn run(&self) -> Run {
        let outcome = self.scenario.run();
        let measured = Measured {
            contender: &self.contender,
            scenario: &self.scenario,
            labels: &self.labels,
            point: &self.point,
        };
        run_of(&measured, &outcome)
    }

    /// Tells runs apart: two jobs with one key have the same result.
    #[must_use]
    pub fn key(&self) -> String {
        // All that a run depends on, and what it is called in the report.
        let Self { contender, scenario, labels, point } = self;
        format!("{:016x}", fnv1a(&format!("{contender} {point:?} {labels:?} {scenario:?}")))
    }
}

/// FNV-1a (draft-eastlake-fnv): a hash that is the same in every build, as keys of a journal have to be.
pub(super) fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A contender's name with the swept values, where there are any.
fn at(name: &str, point: &Point) -> String {
    let with: Vec<String> = point.settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if with.is_empty() { name.to_owned() } else { format!("{name} ({})", with.join(", ")) }
}

/// As far apart as the most frequent probe, so that each probe is a sample of its own.
fn sample(experiment: &Experiment) -> Nanos {
    let interval = experiment.probes.iter().map(|probe| probe.interval).min();
    interval.map_or(SAMPLE, |interval| {
        Nanos::from_nanos(experiment::units::nanos(interval)).clamp(SAMPLE_MIN, SAMPLE_MAX)
    })
}

impl Label {
    /// Whether it is a TCP flow.
    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::Bulk | Kind::Sized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_gives_its_published_values() {
        // draft-eastlake-fnv, appendix C.
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn jobs_come_by_point_contender_and_seed_and_have_keys_of_their_own() {
        let text = "name = \"t\"\nduration = \"9s\"\nseeds = 2\ncontenders = [\"redirect\", \"weir\"]\n[link]\n\
                    rate = \"10mbit\"\ndelay = \"1ms\"\nring = 100\n[[probe]]\ninterval = \"5ms\"\n[[sweep]]\n\
                    key = \"link.ring\"\nvalues = [50, 200]\n";
        let mut experiment = Experiment::parse("t.toml", text).unwrap();
        experiment.set_duration(std::time::Duration::from_secs(1));
        let jobs = Jobs::of(&experiment).unwrap().jobs;
        let order: Vec<(u32, &str, u64)> = jobs
            .iter()
            .map(|job| (job.scenario.path.ring.slots, job.contender.as_str(), job.scenario.seed))
            .collect();
        assert_eq!(order[..3], [(50, "redirect", 1), (50, "redirect", 2), (50, "weir", 1)]);
        assert_eq!(order[7], (200, "weir", 2));
        let mut keys: Vec<String> = jobs.iter().map(Job::key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 8);
        assert!(jobs.iter().all(|job| job.scenario.duration == Nanos::from_secs(1)));
        assert!(jobs.iter().all(|job| job.scenario.sample.is_none()), "a sweep keeps no samples");
    }

    #[test]
    fn the_first_seed_is_sampled_as_often_as_it_is_probed() {
        let text = "name = \"t\"\nduration = \"9s\"\nseeds = 2\ncontenders = [\"redirect\"]\n[link]\n\
                    rate = \"10mbit\"\ndelay = \"1ms\"\nring = 100\n[[probe]]\ninterval = \"5ms\"\n";
        let jobs = Jobs::of(&Experiment::parse("t.toml", text).unwrap()).unwrap().jobs;
        let samples: Vec<Option<Nanos>> = jobs.iter().map(|job| job.scenario.sample).collect();
        assert_eq!(samples, [Some(Nanos::from_millis(5)), None]);
    }
}
