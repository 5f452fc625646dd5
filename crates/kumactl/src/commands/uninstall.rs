//! `kumactl uninstall`: removes what `kumactl install` has set up.

use crate::cli::UninstallTransparentProxy;
use crate::failure::Failure;
use crate::firewall;

/// Removes the redirection. Open connections are not affected.
pub(super) fn transparent_proxy(arguments: &UninstallTransparentProxy) -> Result<String, Failure> {
    let UninstallTransparentProxy { dry_run } = *arguments;
    if dry_run {
        return Ok(firewall::removal());
    }
    if !firewall::exists()? {
        return Ok("There was nothing to remove.\n".to_owned());
    }
    firewall::apply(&firewall::removal())?;
    Ok("Connections are no longer redirected.\n".to_owned())
}
