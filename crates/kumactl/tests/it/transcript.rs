//! Runs commands and records their output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::control_plane::ControlPlane;

/// Address of the server, as it stands in transcripts.
const ADDRESS: &str = "http://CONTROL-PLANE";

/// A user with a home of their own, whose active control plane is the given one.
pub(crate) struct Transcript<'a> {
    home: tempfile::TempDir,
    control_plane: &'a ControlPlane,
    text: String,
}

impl<'a> Transcript<'a> {
    /// A user who has already configured the control plane.
    pub(crate) fn new(control_plane: &'a ControlPlane) -> Transcript<'a> {
        let transcript = Transcript::of_new_user(control_plane);
        let folder = transcript.path(".kumactl");
        std::fs::create_dir(&folder).expect("a folder");
        let config = format!(
            "contexts:\n- controlPlane: test\n  name: test\ncontrolPlanes:\n- coordinates:\n    apiServer:\n      \
             url: {}\n  name: test\ncurrentContext: test\n",
            control_plane.address()
        );
        std::fs::write(folder.join("config"), config).expect("a file");
        transcript
    }

    /// A user who has never run kumactl.
    pub(crate) fn of_new_user(control_plane: &'a ControlPlane) -> Transcript<'a> {
        Transcript { home: tempfile::tempdir().expect("a folder"), control_plane, text: String::new() }
    }

    /// A path in the user's home.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Writes a file in the user's home, which is also where commands run.
    pub(crate) fn file(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).expect("a file");
    }

    /// Runs a command line without input. `SERVER` in it is the address of the control plane.
    pub(crate) fn run(&mut self, line: &str) -> &mut Self {
        self.run_with_input(line, "")
    }

    /// Runs a command line.
    pub(crate) fn run_with_input(&mut self, line: &str, input: &str) -> &mut Self {
        let output = self.output(line, input);
        let Output { status, stdout, stderr } = output;
        let _ = writeln!(self.text, "$ kumactl {line}");
        for (title, text) in [("stdout", stdout), ("stderr", stderr)] {
            if !text.is_empty() {
                let text = String::from_utf8_lossy(&text);
                let end = if text.ends_with('\n') { "" } else { "(no line end)\n" };
                let _ = write!(self.text, "-- {title}\n{text}{end}");
            }
        }
        let requests = self.control_plane.take_requests();
        if !requests.is_empty() {
            let _ = writeln!(self.text, "-- requests\n{}", requests.join("\n"));
        }
        let _ = writeln!(self.text, "-- exit code {}\n", status.code().unwrap_or(-1));
        self
    }

    /// Runs a command line and returns its output without recording it.
    pub(crate) fn output(&self, line: &str, input: &str) -> Output {
        self.output_with(line, input, &[])
    }

    /// Runs a command line with environment variables beside HOME, of which there are none otherwise.
    pub(crate) fn output_with(&self, line: &str, input: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(line);
        let mut child = command.envs(variables.iter().copied()).stdin(Stdio::piped()).spawn().expect("it starts");
        // A program that does not read its input may be gone already.
        let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("the program ends")
    }

    /// Runs a command line with this stdin.
    pub(crate) fn output_on(&self, line: &str, stdin: impl Into<Stdio>) -> Output {
        self.command(line).stdin(stdin).output().expect("the program runs")
    }

    fn command(&self, line: &str) -> Command {
        let address = self.control_plane.address();
        let arguments = line.split(' ').map(|argument| argument.trim_matches('\'').replace("SERVER", &address));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumactl"));
        command.args(arguments).current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Records the content of a file in the user's home.
    pub(crate) fn show(&mut self, path: &str) -> &mut Self {
        let text = std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{error}\n"));
        let _ = writeln!(self.text, "$ cat {path}\n{text}");
        self
    }

    /// Everything recorded so far, with the parts replaced that differ from run to run.
    pub(crate) fn text(&self) -> String {
        let home: &Path = self.home.path();
        self.text.replace(&self.control_plane.address(), ADDRESS).replace(&home.display().to_string(), "HOME")
    }
}
