//! Who is let in, as a table.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use kuma_cp::http::Connection;
use kuma_cp::http::locality::{Refusal, WriteContext, may_administer, may_write};

struct Case {
    peer: &'static str,
    local: &'static str,
    uri: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

const HERE: Case =
    Case { peer: "127.0.0.1:40000", local: "127.0.0.1:5681", uri: "/meshes/m", headers: &[("host", "localhost:5681")] };

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let parse = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
    };
    list.iter().map(parse).fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn connection(case: &Case) -> Option<Connection> {
    let parse = |text: &str| text.parse().expect("an address");
    (!case.peer.is_empty()).then(|| Connection { peer: parse(case.peer), local: parse(case.local) })
}

fn write(case: &Case, origin_listed: bool, allow_remote: bool) -> Result<(), Refusal> {
    may_write(&WriteContext {
        connection: connection(case),
        uri: &case.uri.parse::<Uri>().expect("a target"),
        headers: &headers(case.headers),
        advertised_hostname: "kuma.internal",
        origin_listed,
        allow_remote,
    })
}

fn administer(case: &Case) -> Result<(), Refusal> {
    may_administer(connection(case), &case.uri.parse().expect("a target"), &headers(case.headers))
}

#[test]
fn writes_from_this_machine() {
    for case in [
        HERE,
        Case { headers: &[("host", "127.0.0.1:5681")], ..HERE },
        Case { headers: &[("host", "127.0.0.9")], ..HERE },
        Case { headers: &[("host", "LocalHost")], ..HERE },
        Case { headers: &[("host", "kuma.internal:5681")], ..HERE },
        Case { peer: "[::1]:40000", local: "[::1]:5681", headers: &[("host", "[::1]:5681")], ..HERE },
        Case { peer: "[::ffff:127.0.0.1]:40000", local: "[::ffff:127.0.0.1]:5681", ..HERE },
        Case { uri: "http://localhost:5681/meshes/m", ..HERE },
        // Our own pages, and the address bar.
        Case {
            headers: &[
                ("host", "localhost:5681"),
                ("origin", "http://localhost:5681"),
                ("sec-fetch-site", "same-origin"),
            ],
            ..HERE
        },
        Case { headers: &[("host", "localhost:5681"), ("sec-fetch-site", "none")], ..HERE },
    ] {
        assert_eq!(write(&case, false, false), Ok(()), "{:?} from {}", case.headers, case.peer);
    }
}

#[test]
fn writes_from_elsewhere() {
    let other = |case: Case, expected: Refusal| {
        assert_eq!(write(&case, false, false), Err(expected), "{:?} from {}", case.headers, case.peer);
    };
    other(Case { peer: "", ..HERE }, Refusal::OtherMachine);
    other(Case { peer: "192.168.0.8:1", local: "192.168.0.7:5681", ..HERE }, Refusal::OtherMachine);
    other(Case { peer: "[2001:db8::8]:1", local: "[2001:db8::7]:5681", ..HERE }, Refusal::OtherMachine);
    other(Case { peer: "10.0.0.1:1", local: "127.0.0.1:5681", ..HERE }, Refusal::OtherMachine);
    // As a proxy on this machine passes it through.
    other(Case { peer: "192.168.0.7:1", local: "192.168.0.7:5681", ..HERE }, Refusal::OtherMachine);

    let foreign = |host: &str| Refusal::ForeignHost(host.to_string());
    other(Case { headers: &[("host", "evil.example:5681")], ..HERE }, foreign("evil.example:5681"));
    other(Case { headers: &[("host", "localhost.evil.example")], ..HERE }, foreign("localhost.evil.example"));
    other(Case { headers: &[("host", "192.168.0.7")], ..HERE }, foreign("192.168.0.7"));
    other(Case { headers: &[("host", "user@localhost")], ..HERE }, foreign("user@localhost"));
    other(Case { headers: &[("host", "a b")], ..HERE }, foreign("a b"));
    other(Case { headers: &[], ..HERE }, foreign(""));
    other(Case { headers: &[("host", "localhost"), ("host", "evil.example")], ..HERE }, foreign("evil.example"));
    other(Case { uri: "http://evil.example/meshes/m", ..HERE }, foreign("evil.example"));

    for header in ["forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-anything"] {
        let case = Case { headers: Box::leak(Box::new([("host", "localhost:5681"), (header, "127.0.0.1")])), ..HERE };
        other(case, Refusal::Forwarded(header.to_string()));
    }

    for site in ["cross-site", "same-site", "", "none, cross-site"] {
        let case =
            Case { headers: Box::leak(Box::new([("host", "localhost:5681"), ("sec-fetch-site", site)])), ..HERE };
        other(case, Refusal::CrossSite);
    }
    for origin in [
        "http://evil.example",
        "http://localhost:3000",
        "http://localhost",
        "https://localhost",
        "null",
        "",
        "localhost:5681",
    ] {
        let case = Case { headers: Box::leak(Box::new([("host", "localhost:5681"), ("origin", origin)])), ..HERE };
        other(case, Refusal::ForeignOrigin(origin.to_string()));
    }
}

#[test]
fn the_opt_out_lets_machines_in_and_pages_of_others_not() {
    let remote = Case {
        peer: "10.0.0.1:1",
        local: "10.0.0.2:5681",
        headers: &[("host", "kuma.example"), ("x-forwarded-for", "1.2.3.4")],
        ..HERE
    };
    assert_eq!(write(&remote, false, false), Err(Refusal::OtherMachine));
    assert_eq!(write(&remote, false, true), Ok(()));
    let page = Case { headers: &[("host", "kuma.example"), ("origin", "http://evil.example")], ..remote };
    assert_eq!(write(&page, false, true), Err(Refusal::ForeignOrigin("http://evil.example".into())));
    for host in ["kuma.internal", "10.0.0.2", "localhost"] {
        let origin = format!("http://{host}");
        let headers: &[(&str, &str)] = Box::leak(Box::new([("host", host), ("origin", origin.leak())]));
        assert_eq!(write(&Case { headers, ..page }, false, true), Ok(()), "{host}");
    }
    // A name that its owner has made to point here while his page was open.
    let rebound = Case { headers: &[("host", "evil.example"), ("origin", "http://evil.example")], ..page };
    assert_eq!(write(&rebound, false, true), Err(Refusal::ForeignOrigin("http://evil.example".into())));
    assert_eq!(write(&rebound, true, true), Ok(()), "unless it is listed");
}

#[test]
fn a_listed_origin_may_write_from_this_machine() {
    let page = Case {
        headers: &[("host", "localhost:5681"), ("origin", "http://gui.example"), ("sec-fetch-site", "cross-site")],
        ..HERE
    };
    assert_eq!(write(&page, false, false), Err(Refusal::CrossSite));
    assert_eq!(write(&page, true, false), Ok(()));
    let elsewhere = Case { peer: "10.0.0.1:1", ..page };
    assert_eq!(write(&elsewhere, true, false), Err(Refusal::OtherMachine));
}

#[test]
fn administration_is_for_loopback_alone() {
    assert_eq!(administer(&HERE), Ok(()));
    assert_eq!(administer(&Case { headers: &[("host", "[::1]:5679")], ..HERE }), Ok(()));
    let page = Case { headers: &[("host", "localhost:5679"), ("origin", "http://127.0.0.1:5679")], ..HERE };
    assert_eq!(administer(&page), Ok(()));

    let same_machine =
        Case { peer: "192.168.0.7:1", local: "192.168.0.7:5679", headers: &[("host", "192.168.0.7")], ..HERE };
    assert_eq!(administer(&same_machine), Err(Refusal::OtherMachine));
    let advertised = Case { headers: &[("host", "kuma.internal")], ..HERE };
    assert_eq!(administer(&advertised), Err(Refusal::ForeignHost("kuma.internal".into())));
    let proxied = Case { headers: &[("host", "localhost"), ("via", "1.1 proxy")], ..HERE };
    assert_eq!(administer(&proxied), Err(Refusal::Forwarded("via".into())));
    let rebound = Case { headers: &[("host", "evil.example:5679")], ..HERE };
    assert_eq!(administer(&rebound), Err(Refusal::ForeignHost("evil.example:5679".into())));
    let page = Case { headers: &[("host", "localhost:5679"), ("origin", "http://evil.example")], ..HERE };
    assert_eq!(administer(&page), Err(Refusal::ForeignOrigin("http://evil.example".into())));
    let page = Case { headers: &[("host", "localhost:5679"), ("sec-fetch-site", "same-site")], ..HERE };
    assert_eq!(administer(&page), Err(Refusal::CrossSite));
}
