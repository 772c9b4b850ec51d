//! `weir reload`: a changed list of subscribers and plans, while everything else goes on.

use std::io::Write;
use std::path::Path;

use super::Error;
use crate::config::Config;
use crate::datapath::reload::reload;

/// Applies the subscribers and plans of `path` to its running instance.
pub(super) fn run(path: &Path, out: &mut impl Write) -> Result<(), Error> {
    let config = Config::load(path)?;
    let done = reload(&config)?;
    writeln!(
        out,
        "instance {}: subscribers: {} added, {} removed, {} changed, {} unchanged",
        config.instance, done.added, done.removed, done.changed, done.unchanged
    )?;
    Ok(())
}
