//! The monitoring assignment of one proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kuma_mesh::MetricsEndpoint;
use kuma_model::{Dataplane, Mesh};

use crate::labels;

/// Where the metrics of a proxy are, and its labels.
///
/// There is one for each Dataplane of a mesh with metrics, even if its proxy does not run: Prometheus then shows the
/// target as down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the Dataplane.
    pub dataplane: String,
    /// The service that identifies it: the first by name.
    pub service: String,
    /// Address of its metrics.
    pub address: SocketAddr,
    /// HTTP path of its metrics.
    pub path: String,
    /// Its tags as labels: `version` is the first value of the tag by name, `versions` is all of them as `,v1,v2,`.
    pub tags: BTreeMap<String, String>,
}

/// Why a proxy has no assignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// Its mesh has no metrics.
    NotAsked,
    /// It is a gateway whose address is not known: it has neither an inbound nor `networking.address`. Prometheus would
    /// take a target without a host for its own machine.
    NoAddress,
}

impl Assignment {
    /// The assignment of a Dataplane.
    ///
    /// # Errors
    /// The Dataplane has no metrics that can be scraped.
    pub fn new(mesh_name: &str, mesh: &Mesh, name: &str, dataplane: &Dataplane) -> Result<Assignment, Absent> {
        let MetricsEndpoint { port, path } = MetricsEndpoint::new(mesh, dataplane).ok_or(Absent::NotAsked)?;
        let of_inbound = dataplane.inbounds().first().map(|inbound| inbound.advertised);
        let of_networking = || dataplane.networking.as_ref()?.address.parse().ok();
        let address = of_inbound.or_else(of_networking).ok_or(Absent::NoAddress)?;
        Ok(Assignment {
            mesh: mesh_name.to_owned(),
            dataplane: name.to_owned(),
            service: dataplane.identifying_service().to_owned(),
            address: SocketAddr::new(address, port),
            path,
            tags: tags(dataplane),
        })
    }

    /// The name of the resource.
    pub fn name(&self) -> String {
        format!("/meshes/{}/dataplanes/{}", self.mesh, self.dataplane)
    }
}

/// The tags of all inbounds together, as labels.
fn tags(dataplane: &Dataplane) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in dataplane.tag_sets().into_iter().flat_map(|tags| tags.iter()) {
        values.entry(labels::of_tag(key)).or_default().insert(value);
    }
    let plural = |(label, values): (&String, &BTreeSet<&str>)| {
        let joined: Vec<&str> = values.iter().copied().collect();
        (format!("{label}s"), format!(",{},", joined.join(",")))
    };
    let mut labels: BTreeMap<String, String> = values.iter().map(plural).collect();
    // A tag whose name equals the plural of another one takes precedence.
    labels.extend(values.iter().filter_map(|(label, values)| Some((label.clone(), (*values.first()?).to_owned()))));
    labels
}

#[cfg(test)]
mod tests {
    use kuma_model::{Resource, decode_spec, text};

    use super::*;

    fn spec<R: Resource>(yaml: &str) -> R {
        decode_spec(&text::parse_documents(yaml).expect("YAML")[0]).expect("a spec")
    }

    fn assignment(mesh: &str, dataplane: &str) -> Result<Assignment, Absent> {
        Assignment::new("default", &spec(mesh), "web-1", &spec(dataplane))
    }

    const ON: &str = "metrics: {prometheus: {}}";

    #[test]
    fn the_mesh_decides_whether_and_the_dataplane_where() {
        let web = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}]}";
        assert_eq!(assignment("{}", web), Err(Absent::NotAsked));
        let found = assignment(ON, web).expect("something to scrape");
        assert_eq!((found.address.to_string().as_str(), found.path.as_str()), ("10.0.0.1:5670", "/metrics"));
        assert_eq!(found.name(), "/meshes/default/dataplanes/web-1");
        let own = format!("{web}\nmetrics: {{prometheus: {{port: 1234, path: /own}}}}");
        let found = assignment(ON, &own).expect("something to scrape");
        assert_eq!((found.address.to_string().as_str(), found.path.as_str()), ("10.0.0.1:1234", "/own"));
    }

    #[test]
    fn addresses_are_those_of_the_first_inbound_or_of_the_gateway() {
        for (networking, expected) in [
            ("inbound: [{interface: '[2001:db8::1]:80:8080', tags: {service: web}}]", Ok("[2001:db8::1]:5670")),
            ("address: 10.0.0.9, inbound: [{port: 80, tags: {service: web}}]", Ok("10.0.0.9:5670")),
            ("address: 10.0.0.9, gateway: {tags: {service: kong}}", Ok("10.0.0.9:5670")),
            ("gateway: {tags: {service: kong}}", Err(Absent::NoAddress)),
        ] {
            let found = assignment(ON, &format!("networking: {{{networking}}}"));
            assert_eq!(found.map(|found| found.address.to_string()), expected.map(str::to_owned), "{networking}");
        }
    }

    #[test]
    fn tags_are_labels_in_the_singular_and_in_the_plural() {
        let found = assignment(
            ON,
            "
            networking:
              inbound:
              - {interface: '10.0.0.1:1:1', tags: {service: web, version: v2, a.b: x, 1st: yes, __param_x: evil}}
              - {interface: '10.0.0.1:2:2', tags: {service: api, version: v1, a-b: y, versions: mine}}",
        );
        let found = found.expect("something to scrape");
        assert_eq!(found.service, "api");
        let labels: Vec<String> = found.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            labels,
            [
                "_1st=yes",
                "_1sts=,yes,",
                "_param_x=evil",
                "_param_xs=,evil,",
                "a_b=x",
                "a_bs=,x,y,",
                "service=api",
                "services=,api,web,",
                "version=v1",
                "versions=mine",
                "versionss=,mine,",
            ]
        );
    }
}
