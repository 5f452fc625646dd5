//! The change from one root of a mesh to another.

use std::collections::BTreeSet;

use kuma_ca::{ChangeError, LeafRequest, MeshRoots, Root, RootState};
use proptest::prelude::*;

use crate::{DAY, now};

fn root() -> Root {
    Root::generate("default", now()).expect("a root")
}

fn states(roots: &MeshRoots) -> Vec<RootState> {
    roots.trusted().into_iter().map(|(_, state)| state).collect()
}

#[test]
fn a_change_goes_through_its_steps() {
    let (old, new) = (root(), root());
    let (old_pem, new_pem) = (old.cert_pem().to_owned(), new.cert_pem().to_owned());
    let roots = MeshRoots::new(old);
    assert_eq!((roots.bundle_pem(), states(&roots)), (old_pem.clone(), vec![RootState::Signing]));
    let mut generations = BTreeSet::from([roots.generation()]);

    let roots = roots.introduce(new, now(), None).expect("introduces");
    assert_eq!(states(&roots), [RootState::Signing, RootState::Next]);
    assert_eq!((roots.signing().cert_pem(), roots.bundle_pem()), (&*old_pem, format!("{old_pem}{new_pem}")));
    assert!(generations.insert(roots.generation()));

    let roots = roots.advance(now() + DAY);
    assert_eq!(states(&roots), [RootState::Old, RootState::Signing]);
    assert_eq!((roots.signing().cert_pem(), roots.bundle_pem()), (&*new_pem, format!("{old_pem}{new_pem}")));
    assert_eq!(roots.change().expect("goes on").since, now() + DAY);
    assert!(generations.insert(roots.generation()), "who signs counts, not only who is trusted");

    let roots = roots.advance(now() + DAY);
    assert_eq!((roots.bundle_pem(), states(&roots)), (new_pem, vec![RootState::Signing]));
    assert!(roots.change().is_none());
    assert!(generations.insert(roots.generation()));
}

#[test]
fn one_change_at_a_time_and_to_another_root() {
    let roots = || MeshRoots::new(root()).introduce(root(), now(), None).expect("introduces");
    assert_eq!(roots().introduce(root(), now(), None).map(drop), Err(ChangeError::UnderWay));
    assert_eq!(roots().advance(now()).introduce(root(), now(), None).map(drop), Err(ChangeError::UnderWay));
    let one = root();
    let same = Root::from_pem(one.cert_pem(), one.key_pem()).expect("reads");
    assert_eq!(MeshRoots::new(one).introduce(same, now(), None).map(drop), Err(ChangeError::Same));
}

/// Two roots of one name are distinguished by key identifiers: verifiers do not try the second if the first fails.
#[test]
fn roots_that_look_alike_are_refused() {
    let make = |key_id: rcgen::KeyIdMethod| {
        let (mut params, key) = (rcgen::CertificateParams::default(), rcgen::KeyPair::generate().expect("a key"));
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_identifier_method = key_id;
        let cert = params.self_signed(&key).expect("a certificate").pem();
        Root::from_pem(&cert, &key.serialize_pem().into()).expect("a root")
    };
    let change = |one: Root, other: Root| MeshRoots::new(one).introduce(other, now(), None).map(drop);
    let fixed = || rcgen::KeyIdMethod::PreSpecified(vec![1, 2, 3]);
    assert_eq!(change(make(fixed()), make(fixed())), Err(ChangeError::LooksAlike));
    assert_eq!(change(make(rcgen::KeyIdMethod::Sha256), make(rcgen::KeyIdMethod::Sha256)), Ok(()));
}

#[test]
fn a_root_is_taken_away_at_once() {
    let (old, new) = (root(), root());
    let (old_id, new_id) = (old.id(), new.id());
    let introduced = |old: &Root, new: &Root| {
        let copy = |root: &Root| Root::from_pem(root.cert_pem(), root.key_pem()).expect("reads");
        MeshRoots::new(copy(old)).introduce(copy(new), now(), None).expect("introduces")
    };
    let signing = |roots: Result<MeshRoots, ChangeError>| {
        roots.map(|roots| {
            assert!(roots.change().is_none());
            roots.signing().id()
        })
    };
    assert_eq!(signing(introduced(&old, &new).without(&new_id)), Ok(old_id.clone()), "the change is given up");
    assert_eq!(signing(introduced(&old, &new).without(&old_id)), Ok(new_id.clone()));
    let retired = || introduced(&old, &new).advance(now());
    assert_eq!(signing(retired().without(&old_id)), Ok(new_id.clone()));
    assert_eq!(signing(retired().without(&new_id)), Err(ChangeError::Signs));
    assert_eq!(signing(retired().without("other")), Err(ChangeError::Unknown));
    assert_eq!(signing(MeshRoots::new(old).without(&old_id)), Err(ChangeError::Signs));
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Introduce,
    Advance,
    /// The proxy of this number is given the present roots, then its certificate.
    Update(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![Just(Act::Introduce), Just(Act::Advance), (0..4usize).prop_map(Act::Update)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// While each step waits until all proxies have taken the one before, each trusts the certificate of any other.
    #[test]
    fn every_proxy_trusts_every_other_all_the_time(acts in prop::collection::vec(act(), 1..40)) {
        let mut roots = MeshRoots::new(root());
        // The roots that each trusts, and the root of its certificate.
        let mut proxies = vec![(roots.bundle_pem(), roots.signing().cert_pem().to_owned(), roots.generation()); 4];
        for act in acts {
            match act {
                Act::Introduce
                    if roots.change().is_none() && proxies.iter().all(|held| held.2 == roots.generation()) =>
                {
                    roots = roots.introduce(root(), now(), None).expect("introduces");
                }
                Act::Advance if proxies.iter().all(|held| held.2 == roots.generation()) => roots = roots.advance(now()),
                Act::Introduce | Act::Advance => {}
                Act::Update(at) => {
                    proxies[at] = (roots.bundle_pem(), roots.signing().cert_pem().to_owned(), roots.generation());
                }
            }
            for (_, shown, _) in &proxies {
                prop_assert!(proxies.iter().all(|(trusted, _, _)| trusted.contains(shown)));
            }
        }
    }
}

#[test]
fn what_signs_issues() {
    let roots = MeshRoots::new(root()).introduce(root(), now(), None).expect("introduces").advance(now());
    let services = BTreeSet::from(["web"]);
    let request = LeafRequest { mesh: "default", services: &services, validity: DAY, now: now() };
    assert!(roots.signing().issue(&request).is_ok());
}
