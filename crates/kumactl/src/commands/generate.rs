//! `kumactl generate`: what proves an identity.

use crate::admin;
use crate::cli::DataplaneToken;
use crate::failure::Failure;
use crate::session::Session;

/// The token, without a line end, as it is put into a file.
pub(super) async fn dataplane_token(session: &Session, arguments: DataplaneToken) -> Result<String, Failure> {
    let DataplaneToken { dataplane } = arguments;
    let configuration = session.configuration()?;
    let token = admin::dataplane_token(configuration.active()?, &dataplane, &session.mesh, session.log).await?;
    Ok(token.trim_end().to_owned())
}
