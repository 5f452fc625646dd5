//! What identifies a resource.

use std::fmt;
use std::sync::Arc;

use crate::kinds::Mesh;
use crate::resource::Resource;

/// Longest name of a resource or mesh, in characters: the width of the `name` and `mesh` columns of the documented
/// PostgreSQL schema.
pub const MAX_NAME_LENGTH: usize = 100;

/// What [`Key::mesh`] is for documents that belong to the control plane and to no mesh, such as the key that signs
/// dataplane tokens: no deletion of a mesh takes them along.
pub const NO_MESH: &str = "";

/// Identifies one resource. Of a Mesh, `mesh` is its own name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The `type:` of the document.
    pub kind: &'static str,
    /// The mesh that it belongs to.
    pub mesh: Arc<str>,
    /// Unique within kind and mesh.
    pub name: Arc<str>,
}

impl Key {
    /// Key of a resource inside a mesh.
    pub fn new(kind: &'static str, mesh: &str, name: &str) -> Key {
        Key { kind, mesh: mesh.into(), name: name.into() }
    }

    /// Key of the Mesh of that name.
    pub fn mesh(name: &str) -> Key {
        let name: Arc<str> = name.into();
        Key { kind: Mesh::KIND, mesh: name.clone(), name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)?;
        if self.kind != Mesh::KIND {
            write!(f, " of mesh {:?}", self.mesh)?;
        }
        Ok(())
    }
}

/// What is wrong with the name of a resource or a mesh, if anything. Names hold no dot, because a proxy's node id is
/// `<mesh>.<name>`.
pub fn check_name(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'_');
    if name.is_empty() {
        Some("cannot be empty")
    } else if !name.bytes().all(allowed) {
        Some("invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_' symbols.")
    } else if name.len() > MAX_NAME_LENGTH {
        Some("cannot be longer than 100 characters")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_digits_lowercase_letters_dashes_and_underscores() {
        for good in ["0", "web-1", "_", "a-b_c", "a".repeat(100).as_str()] {
            assert_eq!(check_name(good), None, "{good}");
        }
        for bad in ["Web", "web.1", "web 1", "wéb", "web\n", "a/b", ".."] {
            assert!(check_name(bad).is_some_and(|why| why.starts_with("invalid characters")), "{bad}");
        }
        assert_eq!(check_name(""), Some("cannot be empty"));
        assert_eq!(check_name(&"a".repeat(101)), Some("cannot be longer than 100 characters"));
    }

    #[test]
    fn keys_read_as_people_say_them() {
        assert_eq!(Key::new("Dataplane", "default", "web-1").to_string(), r#"Dataplane "web-1" of mesh "default""#);
        assert_eq!(Key::mesh("default").to_string(), r#"Mesh "default""#);
    }
}
