//! The names of the contenders: what an experiment file may ask for.

/// What the lab can run, in the order of its documentation. The simulator has all of them.
pub const LAB: &[&str] =
    &["redirect", "kernel", "kernel+htb", "kernel+tbf", "kernel+fq_codel", "kernel+cake", "weir"];

/// What only the simulator can run.
pub const SIMULATOR: &[&str] = &[
    "codel",
    "fq_codel",
    "pie",
    "dualpi2",
    "cake",
    "policer",
    "bc-pqp",
    "csfq",
    "weir+codel",
    "weir+pi2",
    "weir+pie",
    "weir+policer",
    "weir+plain",
    "weir+early-mark",
    "weir+early-drop",
];

/// All names.
pub fn all() -> impl Iterator<Item = &'static str> {
    LAB.iter().chain(SIMULATOR).copied()
}

/// Refuses a name that nobody has.
///
/// # Errors
/// The rule, with the names there are.
pub fn check(name: &str) -> Result<(), String> {
    if all().any(|known| known == name) {
        return Ok(());
    }
    let known: Vec<&str> = all().collect();
    Err(format!("`{name}` is no contender; the contenders are {}", known.join(", ")))
}
