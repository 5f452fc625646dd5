//! `install database-schema`. That the SQL makes the tables is tested in kuma-store-postgres.

use insta::assert_snapshot;

use crate::control_plane::ControlPlane;
use crate::transcript::Transcript;

#[test]
fn the_sql_is_printed_without_a_control_plane() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    let sql = include_str!("../../../kuma-store-postgres/src/schema.sql");
    for line in ["install database-schema", "install database-schema --target=postgres"] {
        let printed = transcript.output(line, "");
        assert!(printed.status.success());
        assert_eq!(String::from_utf8_lossy(&printed.stdout), sql);
    }
    transcript.run("install database-schema --target=mysql").run("install database-schema --help");
    assert_snapshot!(transcript.text());
}
