//! Keys and tokens are in the memory of this process: it leaves no core file, and no other process of its user may read
//! it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids both, for this process and, as for core files, for those that it starts.
pub(crate) fn forbid() {
    // The hard limit too: else whoever gets hold of the process could raise it.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files of this process, which holds keys, cannot be forbidden");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the memory of this process, which holds keys, can be read by others of its user");
    }
}
