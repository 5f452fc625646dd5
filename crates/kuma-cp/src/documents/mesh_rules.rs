//! What a Mesh may become, given what is stored: rules that its text alone cannot decide.

use kuma_model::{Ca, Mesh, Violation};

/// Which CAs are kept for a mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeptCas {
    /// The builtin CA.
    pub builtin: bool,
    /// A certificate that the user provided.
    pub provided: bool,
}

/// What a write of a Mesh means for its CA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaPlan {
    /// It stays as it is.
    Keep,
    /// The mesh gets a builtin CA, in the same commit.
    Create,
    /// The Mesh cannot be written like this.
    Refuse(Violation),
    /// The mesh has had a builtin CA and it is gone. A new one would cut off every proxy that trusts the old one, so
    /// it is never made without being asked for.
    Lost,
}

/// What becomes of the CA when `old`, if there is one, is replaced by `new`.
pub fn plan(old: Option<&Mesh>, new: &Mesh, kept: KeptCas) -> CaPlan {
    if let Some(old) = old
        && old.mtls_enabled()
        && new.mtls_enabled()
        && old.ca() != new.ca()
    {
        return refuse(
            "mtls.ca",
            "Changing CA when mTLS is enabled is forbidden. Disable mTLS first and then change the CA",
        );
    }
    match new.ca() {
        Ca::Provided if kept.provided => CaPlan::Keep,
        Ca::Provided => refuse(
            "mtls.ca.provided",
            "There is no signing certificate in provided CA for a given mesh. \
             Add certificate via 'kumactl manage ca provided certificates add' command.",
        ),
        Ca::Builtin if kept.builtin => CaPlan::Keep,
        // A Mesh that was builtin got its CA in the commit that made it so.
        Ca::Builtin if old.is_some_and(|old| old.ca() == Ca::Builtin) => CaPlan::Lost,
        Ca::Builtin => CaPlan::Create,
    }
}

fn refuse(field: &str, message: &str) -> CaPlan {
    CaPlan::Refuse(Violation { field: field.into(), message: message.into() })
}

#[cfg(test)]
mod tests {
    use kuma_model::Mtls;

    use super::*;

    fn mesh(enabled: bool, ca: Ca) -> Mesh {
        Mesh { mtls: Some(Mtls { ca: Some(ca), enabled }), ..Mesh::default() }
    }

    #[test]
    fn every_change_of_a_ca() {
        const NONE: KeptCas = KeptCas { builtin: false, provided: false };
        const BUILTIN: KeptCas = KeptCas { builtin: true, provided: false };
        const PROVIDED: KeptCas = KeptCas { builtin: false, provided: true };
        const BOTH: KeptCas = KeptCas { builtin: true, provided: true };
        let (off, on) = (false, true);
        let refused = |plan: CaPlan| match plan {
            CaPlan::Refuse(cause) => cause.field,
            other => panic!("not refused: {other:?}"),
        };
        let check = |old: Option<(bool, Ca)>, new: (bool, Ca), kept| {
            let old = old.map(|(enabled, ca)| mesh(enabled, ca));
            plan(old.as_ref(), &mesh(new.0, new.1), kept)
        };
        use Ca::{Builtin, Provided};

        assert_eq!(plan(None, &Mesh::default(), NONE), CaPlan::Create, "builtin is the default");
        assert_eq!(check(None, (on, Builtin), NONE), CaPlan::Create);
        assert_eq!(check(None, (on, Builtin), BUILTIN), CaPlan::Keep);
        assert_eq!(check(None, (off, Provided), PROVIDED), CaPlan::Keep);
        assert_eq!(refused(check(None, (off, Provided), NONE)), "mtls.ca.provided", "even with mTLS off");

        assert_eq!(check(Some((off, Builtin)), (on, Builtin), BUILTIN), CaPlan::Keep);
        assert_eq!(check(Some((on, Builtin)), (on, Builtin), NONE), CaPlan::Lost);
        assert_eq!(check(Some((off, Builtin)), (off, Builtin), NONE), CaPlan::Lost);

        for (old, new) in [(Builtin, Provided), (Provided, Builtin)] {
            assert_eq!(refused(check(Some((on, old)), (on, new), BOTH)), "mtls.ca");
            assert_eq!(check(Some((on, old)), (off, new), BOTH), CaPlan::Keep);
            assert_eq!(check(Some((off, old)), (on, new), BOTH), CaPlan::Keep);
        }
        assert_eq!(check(Some((off, Provided)), (on, Builtin), PROVIDED), CaPlan::Create, "born provided");
        let field = refused(check(Some((on, Builtin)), (on, Provided), NONE));
        assert_eq!(field, "mtls.ca", "the change itself is the first thing that is wrong");
    }
}
