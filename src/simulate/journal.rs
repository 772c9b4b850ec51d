//! What is done survives an interrupt: one line of JSON for each run that finished.
//!
//! The first line says of which experiment and which version of the simulator the journal is. A line that an interrupt cut
//! short is dropped when the journal is opened again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::fnv1a;
use super::run::SIMULATOR;
use crate::experiment::Experiment;
use crate::report::{Run, Samples};

/// The journal's name in its directory.
const FILE: &str = "journal.jsonl";

/// A journal that is open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    done: HashMap<String, Run>,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum JournalError {
    /// It is of another experiment.
    #[error("{path} has the results of another experiment ({found}), not of {wanted}")]
    #[diagnostic(code(weir::sim::journal), help("give another directory, or remove this one"))]
    Other {
        /// The journal.
        path: String,
        /// What it says of itself.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// It is none.
    #[error("{path} is no journal of `weir sim`")]
    #[diagnostic(code(weir::sim::journal))]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It cannot be read or written.
    #[error("cannot use {path}")]
    #[diagnostic(code(weir::sim::journal))]
    Io {
        /// The file or its directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Head {
    simulator: String,
    experiment: String,
    /// Of the file's text.
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    run: Run,
    /// In full: a run as JSON has fewer.
    samples: Samples,
}

impl Journal {
    /// Opens the journal in `dir`, or begins one; the directory is made where it is missing.
    ///
    /// # Errors
    /// [`JournalError`]; the journal is untouched then.
    pub fn open(dir: &Path, experiment: &Experiment) -> Result<Self, JournalError> {
        let path = dir.join(FILE);
        let failed = |source| JournalError::Io { path: path.display().to_string(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let head = Head {
            simulator: SIMULATOR.to_owned(),
            experiment: experiment.name.clone(),
            hash: format!("{:016x}", fnv1a(&experiment.source)),
        };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let text = fs::read_to_string(&path).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut done = HashMap::new();
        match text.get(..whole).and_then(|text| text.split_once('\n')) {
            Some((first, lines)) => {
                check(&path, first, &head)?;
                for line in lines.lines() {
                    let Line { key, mut run, samples } =
                        serde_json::from_str(line).map_err(unreadable(&path))?;
                    run.samples = samples;
                    done.insert(key, run);
                }
                file.set_len(whole as u64).map_err(failed)?;
            }
            None => {
                file.set_len(0).map_err(failed)?;
                write_line(&mut file, &head).map_err(failed)?;
            }
        }
        Ok(Self { path, file, done })
    }

    /// The run with this key, if it is done.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Run> {
        self.done.get(key)
    }

    /// Adds a run that is done.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn add(&mut self, key: String, run: &Run) -> Result<(), JournalError> {
        let line = Line { key, run: run.clone(), samples: run.samples.clone() };
        write_line(&mut self.file, &line)
            .map_err(|source| JournalError::Io { path: self.path.display().to_string(), source })
    }
}

fn check(path: &Path, first: &str, wanted: &Head) -> Result<(), JournalError> {
    let found: Head = serde_json::from_str(first).map_err(unreadable(path))?;
    let said = |head: &Head| format!("{}, text {}, {}", head.experiment, head.hash, head.simulator);
    if found == *wanted {
        return Ok(());
    }
    Err(JournalError::Other { path: path.display().to_string(), found: said(&found), wanted: said(wanted) })
}

fn unreadable(path: &Path) -> impl FnOnce(serde_json::Error) -> JournalError {
    let path = path.display().to_string();
    move |source| JournalError::Unreadable { path, source }
}

/// One write for a line: what an interrupt leaves is whole lines and at most one part of a line.
fn write_line(file: &mut File, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    file.write_all(text.as_bytes())
}
