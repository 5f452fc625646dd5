//! The file of a database: who may read it, and where it may lie.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Fault, Result};

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// The file of this name, or `None` if there is none.
pub(crate) fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(Identity { device: found.dev(), inode: found.ino() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an empty file that only this user can read, and the folders above it, unless they are there. A file that is
/// there is closed to others. Says whether it was made.
pub(crate) fn prepare(path: &Path) -> Result<bool> {
    let folder = folder(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if let Some(name) = network_file_system(rustix::fs::statfs(folder).map_err(io::Error::from)?.f_type as u64) {
        return Err(Fault::Refused(format!(
            "it is on a network file system ({name}), where two programs can damage it; choose a folder on a local \
             disk (KUMA_STORE_FILE_PATH), or store.type postgres"
        )));
    }
    // An existing file is not opened: closing it again would take this process's own locks on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            sync_folder(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::metadata(path)?;
            if !found.is_file() {
                return Err(Fault::Refused("it is not a file".into()));
            }
            if found.mode() & 0o077 != 0 {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            }
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes what happened to the names in the file's folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Makes what can be read from a file durable, if the file is there. A sync alone is not enough: after one that failed
/// Linux keeps the pages, takes them for written, and has nothing to do for the next one.
pub(crate) fn write_again(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    file.write_all_at(&content, 0)?;
    file.sync_data()
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name with an ending; SQLite's own files are called so.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The name of a file system on which programs do not share memory, by its number (statfs(2)).
fn network_file_system(magic: u64) -> Option<&'static str> {
    // The numbers have 32 bits, and some platforms extend their sign.
    match magic as u32 {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x0102_1997 => Some("9P"),
        0x5346_414F | 0x6B41_4653 => Some("AFS"),
        0x00C3_6400 => Some("Ceph"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        for (magic, name) in [(0x6969, "NFS"), (0xFFFF_FFFF_FF53_4D42, "SMB"), (0x0102_1997, "9P")] {
            assert_eq!(network_file_system(magic), Some(name));
        }
        // ext4, tmpfs, XFS, Btrfs, overlayfs
        for magic in [0xEF53, 0x0102_1994, 0x5846_5342, 0x9123_683E, 0x794C_7630] {
            assert_eq!(network_file_system(magic), None, "{magic:x}");
        }
    }
}
