//! The file that Prometheus reads. It is there from the start, it is always whole, and it is touched only when it
//! changes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What is in it while nothing else is known.
const NOTHING: &str = "[]\n";

/// The file, and what it holds.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    text: String,
}

impl Output {
    /// Makes sure that the file can be written, and that it is there. One that is there already is kept: Prometheus
    /// goes on with it until the control plane has been heard.
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

    /// Puts a text in place of what the file holds, in one step for whoever reads it. Whether that was a change.
    ///
    /// # Errors
    /// It cannot be written; then it is as it was.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<bool> {
        if self.text == text {
            return Ok(false);
        }
        let fresh = self.fresh();
        make(&fresh, text.as_bytes()).and_then(|()| fs::rename(&fresh, &self.path)).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(&fresh);
        })?;
        self.text = text.to_owned();
        Ok(true)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file before it takes its place. It is in the same folder, so that a rename is one step, and no
    /// pattern that Prometheus may have for its files matches it.
    fn fresh(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}.new", std::process::id()))
    }
}

/// Makes a file that everybody may read (as far as the umask lets them): Prometheus has a user of its own.
fn make(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        // Left over from a process of the same id that was killed in between.
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
