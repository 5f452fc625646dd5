//! What every program of the project says about its own version.
//!
//! `version` prints the number alone; `version --detailed` prints four aligned lines, as documented.

/// Version of this build, such as `0.4.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Git tag of this build; set by the release build through `KUMA_BUILD_GIT_TAG`.
pub const GIT_TAG: &str = or_unknown(option_env!("KUMA_BUILD_GIT_TAG"));
/// Git commit of this build; set by the release build through `KUMA_BUILD_GIT_COMMIT`.
pub const GIT_COMMIT: &str = or_unknown(option_env!("KUMA_BUILD_GIT_COMMIT"));
/// Date of this build; set by the release build through `KUMA_BUILD_DATE`.
pub const BUILD_DATE: &str = or_unknown(option_env!("KUMA_BUILD_DATE"));

const fn or_unknown(value: Option<&'static str>) -> &'static str {
    match value {
        Some(value) => value,
        None => "unknown",
    }
}

/// The text of the `version` command, with a newline at the end.
pub fn text(detailed: bool) -> String {
    if detailed {
        format!("Version:    {VERSION}\nGit Tag:    {GIT_TAG}\nGit Commit: {GIT_COMMIT}\nBuild Date: {BUILD_DATE}\n")
    } else {
        format!("{VERSION}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detailed_values_start_in_one_column() {
        for line in text(true).lines() {
            assert_eq!(&line[11..12], " ", "{line}");
            assert_ne!(&line[12..13], " ", "{line}");
        }
    }
}
