//! `kumactl completion` and `kumactl man`, generated from the definition of the command line.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;

/// The script for a shell.
pub(super) fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kumactl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of kumactl. With a folder, writes the pages of all commands into it.
pub(super) fn pages(folder: Option<&Path>) -> Result<String, Failure> {
    let failure = |error: std::io::Error| Failure::new(format!("could not write manual pages: {error}"));
    match folder {
        Some(folder) => {
            clap_mangen::generate_to(Cli::command(), folder).map_err(failure)?;
            Ok(String::new())
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failure)?;
            Ok(String::from_utf8_lossy(&page).into_owned())
        }
    }
}
