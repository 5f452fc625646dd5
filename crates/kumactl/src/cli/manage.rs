//! The command line of `manage`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// `manage`
#[derive(Debug, Subcommand)]
pub(crate) enum Manage {
    /// Manage the CA that signs the certificates of a mesh's proxies
    #[command(subcommand)]
    Ca(ManageCa),
}

/// `manage ca`
#[derive(Debug, Subcommand)]
pub(crate) enum ManageCa {
    /// Manage the CA that the control plane makes
    #[command(subcommand)]
    Builtin(BuiltinCa),
    /// Manage a CA of your own
    #[command(subcommand)]
    Provided(ProvidedCa),
}

/// `manage ca builtin`
#[derive(Debug, Subcommand)]
pub(crate) enum BuiltinCa {
    /// Manage its certificates
    #[command(subcommand)]
    Certificates(BuiltinCertificates),
}

/// `manage ca provided`
#[derive(Debug, Subcommand)]
pub(crate) enum ProvidedCa {
    /// Manage its certificates
    #[command(subcommand)]
    Certificates(ProvidedCertificates),
}

/// `manage ca builtin certificates`
#[derive(Debug, Subcommand)]
pub(crate) enum BuiltinCertificates {
    /// Delete a certificate: the next one, which ends a rotation, or with --force one that proxies still need
    Delete(DeleteCertificate),
    /// List the certificates, and which of them signs
    List(ListCertificates),
    /// Replace the certificate that signs by a new one, without cutting a connection
    Rotate(Rotate),
}

/// `manage ca provided certificates`
#[derive(Debug, Subcommand)]
pub(crate) enum ProvidedCertificates {
    /// Add the certificate that signs, with its key; the mesh need not exist yet
    Add(AddCertificate),
    /// Delete a certificate
    Delete(DeleteCertificate),
    /// List the certificates, and which of them signs
    List(ListCertificates),
    /// Replace the certificate that signs by another one, without cutting a connection
    Rotate(RotateProvided),
}

/// Flags of commands that send a certificate.
#[derive(Debug, Args)]
pub(crate) struct KeyPairFiles {
    /// File with the private key, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// File with the certificate, in PEM: a self-signed root
    #[arg(long, value_name = "FILE")]
    pub(crate) cert_file: PathBuf,
}

/// `manage ca provided certificates add`
#[derive(Debug, Args)]
pub(crate) struct AddCertificate {
    #[command(flatten)]
    pub(crate) pair: KeyPairFiles,
}

/// `manage ca provided certificates rotate`
#[derive(Debug, Args)]
pub(crate) struct RotateProvided {
    #[command(flatten)]
    pub(crate) pair: KeyPairFiles,
    #[command(flatten)]
    pub(crate) rotate: Rotate,
}

/// Flags of commands that rotate a CA.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// How long to wait, in each step, for proxies that are away, such as 10m [default: for as long as their
    /// certificates last]
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
}

/// `manage ca … certificates delete`
#[derive(Debug, Args)]
pub(crate) struct DeleteCertificate {
    /// Id of the certificate
    #[arg(long)]
    pub(crate) id: String,
    /// Delete it at once although proxies may need it: those that do are cut off until they have another
    #[arg(long)]
    pub(crate) force: bool,
}

/// `manage ca … certificates list`
#[derive(Debug, Args)]
pub(crate) struct ListCertificates {
    #[command(flatten)]
    pub(crate) output: Output,
}
