//! The names of the contenders: what an experiment file may ask for.

/// What the lab can run, in the order of its documentation.
pub const LAB: &[&str] =
    &["redirect", "kernel", "kernel+htb", "kernel+tbf", "kernel+fq_codel", "kernel+cake", "weir"];
