//! The engine of meshes: follows the store and keeps the configuration of every connected proxy up to date.
//!
//! [`MeshEngine`] is the state of one mesh: it takes events and sets the states of streams, without I/O; time is an
//! argument. It consists of these parts:
//!
//! - [`MeshView`]: the documents at a revision, and the configuration that follows from them for *any* proxy. Cheap to
//!   copy; does not depend on connections;
//! - `Connections`: the connected proxies, what each was given, and the revision that it has accepted;
//! - `Identities` and `Rotation`: the certificates of proxies, and when the next step of a CA rotation is due;
//! - `Receipts`: for each commit, which proxies have accepted it;
//! - `gate`: whether a stream may speak for a Dataplane, before it affects anything.
//!
//! [`Engine`] runs one `MeshEngine` per mesh, each in a task that wakes for a commit, an event of a stream or a
//! deadline. It reports events to an [`Observer`].
//!
//! The engine does not verify tokens, does not implement the xDS protocol (`kuma-xds` does) and stores nothing.

mod connections;
mod content;
mod documents;
mod engine;
mod gate;
mod identities;
mod identity;
mod mesh;
mod numbering;
mod receipts;
mod recovery;
mod rotation;
mod task;
mod view;

pub use connections::{OnStanding, OpenStream, StreamId};
pub use engine::{Change, Engine, NoReceipt, Observer};
pub use gate::{Caller, Standing, is_of_this_machine};
pub use mesh::{Absent, MeshEngine, News, Refused, Settings, Warning};
pub use receipts::{Counts, Exception, ExceptionState, Progress, Receipt, Settled};
pub use recovery::{LONGEST_RECOVERY, QUIET};
pub use rotation::{DueStep, LINGER, RotationStatus, SETTLE};
pub use view::MeshView;
