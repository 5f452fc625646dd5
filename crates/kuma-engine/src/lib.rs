//! The engine of meshes: follows the store and keeps every connected proxy at what the documents of its mesh say.
//!
//! [`MeshEngine`] is one mesh at work: events in, states of streams out, without I/O; time is an argument. It is made
//! of parts with a subject each:
//!
//! - [`MeshView`]: the documents at a revision, and what *any* proxy should get from them. Cheap to copy; knows no
//!   streams;
//! - `Connections`: who is connected, what each was given, and at which revision it has settled;
//! - `Identities` and `Rotation`: who is issued which certificate, and when the next step of a change of CAs is due;
//! - `Receipts`: how far each commit has come, from the write to the last proxy;
//! - `gate`: whether a stream may speak for a Dataplane, before anything is touched by it.
//!
//! [`Engine`] runs one `MeshEngine` a mesh, each in a task of its own, which wakes for a commit, a stream or a
//! deadline. What the engine has to tell others goes to its [`Observer`].
//!
//! It checks no token, speaks no protocol (`kuma-xds` does) and stores nothing.

mod connections;
mod content;
mod documents;
mod engine;
mod gate;
mod identities;
mod identity;
mod mesh;
mod receipts;
mod recovery;
mod rotation;
mod task;
mod view;

pub use connections::{OnStanding, OpenStream, StreamId};
pub use engine::{Change, Engine, NoReceipt, Observer};
pub use gate::{Caller, Standing, is_of_this_machine};
pub use mesh::{MeshEngine, News, Refused, Settings, Warning};
pub use receipts::{Counts, Exception, ExceptionState, Progress, Receipt, Settled};
pub use recovery::{LONGEST_RECOVERY, QUIET};
pub use rotation::{DueStep, LINGER, RotationStatus, SETTLE};
pub use view::MeshView;
