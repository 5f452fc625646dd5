//! The file for Prometheus. It exists from the start, is replaced atomically, and is written only when its content
//! changes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Its content before the first list.
const NOTHING: &str = "[]\n";

/// The file and its content.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    text: String,
}

impl Output {
    /// Makes sure that the file exists and can be written. An existing file is kept, so that Prometheus uses it until
    /// the control plane sends a list.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Output> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let unable = || format!("unable to write to directory {folder:?}");
        fs::create_dir_all(folder).with_context(unable)?;
        match fs::read(path) {
            Ok(there) => {
                let output = Output { path: path.to_owned(), text: String::from_utf8_lossy(&there).into_owned() };
                let fresh = output.fresh();
                make(&fresh, &[]).and_then(|()| fs::remove_file(fresh)).with_context(unable)?;
                Ok(output)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut output = Output { path: path.to_owned(), text: String::new() };
                output.write(NOTHING).with_context(unable)?;
                Ok(output)
            }
            Err(error) => Err(error).with_context(|| format!("unable to use the file {path:?}")),
        }
    }

    /// Replaces the content atomically. Returns whether it has changed.
    ///
    /// # Errors
    /// The file cannot be written. It keeps its content then.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<bool> {
        if self.text == text {
            return Ok(false);
        }
        let fresh = self.fresh();
        make(&fresh, text.as_bytes()).and_then(|()| fs::rename(&fresh, &self.path)).inspect_err(|_| {
            // Only the first error is reported.
            let _ = fs::remove_file(&fresh);
        })?;
        self.text = text.to_owned();
        Ok(true)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the temporary file. It is in the same folder, so that the rename is atomic, and its name matches no
    /// pattern that Prometheus may have for its files.
    fn fresh(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}.new", std::process::id()))
    }
}

/// Creates a file that all users can read (subject to the umask), since Prometheus runs as another user.
fn make(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        // A process with the same id may have been killed before the rename.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_file_is_there_from_the_start_and_one_that_is_there_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/kuma.json");
        let mut output = Output::open(&path).expect("it can be written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "[]\n");
        assert!(output.write("[1]\n").expect("it can be written"));
        assert!(!output.write("[1]\n").expect("nothing to do"));

        let mut output = Output::open(&path).expect("it can be written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "[1]\n");
        assert!(!output.write("[1]\n").expect("nothing to do"));
        assert_eq!(names(&folder.path().join("a/b")), ["kuma.json"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Output::open(folder.path()).expect_err("a folder is no file");
        assert!(format!("{error:#}").starts_with("unable to use the file "), "{error:#}");
        fs::write(folder.path().join("file"), "").expect("writes");
        let error = Output::open(&folder.path().join("file/kuma.json")).expect_err("a file is no folder");
        assert!(format!("{error:#}").starts_with("unable to write to directory "), "{error:#}");

        let path = folder.path().join("kuma.json");
        let mut output = Output::open(&path).expect("it can be written");
        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("something is in the way");
        output.write("[1]\n").expect_err("a folder is not replaced");
        assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
    }
}
