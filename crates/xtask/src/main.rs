//! Chores of the repository that are written in Rust: `cargo xtask <chore>`.

#[cfg(feature = "generate")]
mod descriptors;
#[cfg(feature = "generate")]
mod generate;
#[cfg(feature = "generate")]
mod prune;
#[cfg(feature = "generate")]
mod subset;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask gen <path of an Envoy binary>
  Writes crates/envoy-api/src/generated and crates/envoy-raw/src/descriptors.bin.zz from the message descriptors that \
  the
  Envoy binary carries.";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["gen", envoy] => generate(envoy),
        _ => bail!(USAGE),
    }
}

#[cfg(feature = "generate")]
fn generate(envoy: &str) -> anyhow::Result<()> {
    generate::run(envoy.as_ref())
}

#[cfg(not(feature = "generate"))]
fn generate(_envoy: &str) -> anyhow::Result<()> {
    bail!("the generator is left out of this build: run `cargo xtask gen`, or build with `--features generate`")
}
