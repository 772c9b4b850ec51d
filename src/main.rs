//! The `weir` command. Everything it does is in the library, see `weir::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
