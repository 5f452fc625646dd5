//! `cargo xtask gen`: from an Envoy binary to the sources of `envoy-api` and the descriptors of `envoy-raw`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::{descriptors, prune, subset};

/// Files that `prost-types` has in Rust.
const WELL_KNOWN: [&str; 6] = [
    "google/protobuf/any.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
];

/// Writes `crates/envoy-api/src/generated` and `crates/envoy-raw/src/descriptors.bin.zz`.
pub(crate) fn run(envoy: &Path) -> Result<()> {
    let binary = fs::read(envoy).with_context(|| format!("cannot read {}", envoy.display()))?;
    let scanned = descriptors::scan(&binary);
    ensure!(!scanned.is_empty(), "{} carries no message descriptors", envoy.display());
    whole(&scanned)?;
    let files: BTreeMap<String, FileDescriptorProto> =
        scanned.into_iter().map(|(name, file)| (name, file.descriptor)).collect();
    let pruned = prune::prune(&files, subset::ROOTS)?;
    let (messages, fields) = prune::count(&pruned)?;
    let set = self_contained(pruned, &files);

    let target = root().join("crates/envoy-api/src/generated");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir_all(&target)?;
    fs::write(target.join("descriptors.bin"), set.encode_to_vec())?;

    prost_build::Config::new()
        .out_dir(&target)
        .include_file("mod.rs")
        // The value of an Any is most of what is sent: shared, not copied.
        .bytes(["."])
        // A hash map's order, and with it the bytes, would differ from run to run.
        .btree_map(["."])
        .extern_path(".google.protobuf.Any", "crate::Any")
        .disable_comments(["."])
        .compile_fds(set)?;
    println!(
        "{} of {} files: {messages} messages, {fields} fields -> {}",
        fs::read_dir(&target)?.count() - 2,
        files.len(),
        target.strip_prefix(root()).unwrap_or(&target).display()
    );
    Ok(())
}

/// All files as they are in the binary, byte for byte (the rules of protoc-gen-validate are options that protobuf
/// itself does not know), as one `FileDescriptorSet` compressed by zlib.
fn whole(files: &BTreeMap<String, descriptors::File<'_>>) -> Result<()> {
    const BEST: u8 = 10;
    for (name, file) in files {
        for import in &file.descriptor.dependency {
            ensure!(files.contains_key(import), "{name} imports {import}, which was not found");
        }
    }
    let mut set = Vec::new();
    for file in files.values() {
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut set);
        prost::encoding::encode_varint(file.bytes.len() as u64, &mut set);
        set.extend_from_slice(file.bytes);
    }
    let target = root().join("crates/envoy-raw/src/descriptors.bin.zz");
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(&set, BEST);
    fs::write(&target, &compressed)?;
    println!("{} files: {} bytes, {} compressed", files.len(), set.len(), compressed.len());
    Ok(())
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

/// Adds the imports of each file, and the files of the well-known types.
fn self_contained(pruned: FileDescriptorSet, files: &BTreeMap<String, FileDescriptorProto>) -> FileDescriptorSet {
    let kept: BTreeSet<String> = pruned.file.iter().map(|file| file.name().to_owned()).collect();
    let is_well_known = |name: &str| WELL_KNOWN.contains(&name);
    let well_known = files.values().filter(|file| is_well_known(file.name())).cloned();
    let with_imports = pruned.file.into_iter().map(|mut file| {
        let imports = &files[file.name()].dependency;
        file.dependency = imports.iter().filter(|name| kept.contains(*name) || is_well_known(name)).cloned().collect();
        file
    });
    FileDescriptorSet { file: well_known.chain(with_imports).collect() }
}
