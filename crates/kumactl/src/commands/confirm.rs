//! Questions to the user before something is done that cannot simply be undone.

use std::io::IsTerminal as _;

use crate::failure::Failure;

/// Asks a question on the terminal. `what` needs the confirmation, and `hint` is how to do without.
///
/// # Errors
/// The answer is not yes, or there is no terminal.
pub(super) fn confirm(question: &str, what: &str, hint: &'static str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(format!("{what} needs a confirmation, and there is no terminal to ask for it"))
            .note("Nothing was done.")
            .hint(hint));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(Failure::new("nothing was done")),
    }
}
