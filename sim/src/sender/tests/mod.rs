//! Senders against theory, on a path small enough to be right at sight.

mod bbr;
mod open;
mod path;
mod repair;
mod sharing;
mod windows;

/// Whether `found` is within `tolerance` of `expected`.
fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found / expected - 1.0).abs() < tolerance
}
