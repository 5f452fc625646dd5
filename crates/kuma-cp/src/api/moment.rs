//! `at`, `from` and `to`: an earlier state, by its revision or by a time.

use http::StatusCode;
use jiff::Timestamp;
use kuma_store::{Contents, Moment, StoreError};
use serde_json::Value;

use super::Api;
use crate::http::ApiError;
use crate::http::error::cause;

/// The parameter of reads of documents.
pub(super) const AT: &str = "at";

/// The accepted forms, for messages.
const FORMS: &str = "must be a revision such as 412, a time such as 2026-11-30T14:00:00Z, or latest";

/// A requested state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// The present one.
    Latest,
    /// An earlier one.
    Past(Moment),
}

impl Asked {
    /// Parses it.
    pub(super) fn parse(text: &str) -> Result<Asked, String> {
        if text == "latest" {
            return Ok(Asked::Latest);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let revision = text.parse().map_err(|_| format!("{text} is too large for a revision"))?;
            return Ok(Asked::Past(Moment::Revision(revision)));
        }
        time(text).map(|time| Asked::Past(Moment::Time(time))).ok_or_else(|| FORMS.to_owned())
    }

    /// Reads it from a body, where a revision may be a number.
    pub(super) fn read(value: &Value) -> Result<Asked, String> {
        match (value.as_u64(), value.as_str()) {
            (Some(revision), _) => Ok(Asked::Past(Moment::Revision(revision))),
            (_, Some(text)) => Asked::parse(text),
            _ => Err(FORMS.to_owned()),
        }
    }
}

/// A time as RFC 3339 has it. In a query, a `+` that is not written as `%2B` arrives as a space.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.replace(' ', "+").parse().ok()
}

/// The value of `at` in a query.
pub(super) fn at(query: &str, title: &str) -> Result<Option<Asked>, ApiError> {
    let found = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == AT).last();
    let asked = found.map(|(_, text)| Asked::parse(&text)).transpose();
    asked.map_err(|wrong| ApiError::invalid(title, vec![cause(AT, wrong)]))
}

/// Refuses `at` for resources without history.
pub(super) fn refuse(query: &str, title: &str) -> Result<(), ApiError> {
    match at(query, title)? {
        Some(_) => Err(ApiError::invalid(title, vec![cause(AT, "there is no history of what proxies report")])),
        None => Ok(()),
    }
}

impl Api {
    /// All documents but secrets in the state that the parameter `field` asks for.
    pub(super) async fn state(&self, asked: Asked, field: &str, title: &str) -> Result<Contents, ApiError> {
        let state = match asked {
            Asked::Latest => self.store.read_all().await,
            Asked::Past(moment) => {
                self.check_past(moment, field, title)?;
                self.store.at(moment).await
            }
        };
        let Contents { mut documents, revision, complete, generation } =
            state.map_err(|error| refused(&error, field, title))?;
        documents.retain(|stored| kuma_model::kind(stored.key.kind).is_some());
        Ok(Contents { documents, revision, complete, generation })
    }

    /// Refuses a time in the future.
    pub(super) fn check_past(&self, moment: Moment, field: &str, title: &str) -> Result<(), ApiError> {
        match moment {
            Moment::Time(time) if time > Timestamp::now() => {
                let latest = self.store.head().position.revision;
                let message = format!("is in the future; the latest revision is {latest}");
                Err(ApiError::invalid(title, vec![cause(field, message)]))
            }
            _ => Ok(()),
        }
    }
}

/// Why there is no such state: 410 if it is not kept any more, 400 if it is in the future.
pub(super) fn refused(error: &StoreError, field: &str, title: &str) -> ApiError {
    match error {
        StoreError::Forgotten { floor, .. } => {
            let details = format!("That is not kept any more: the oldest revision whose state is known is {floor}");
            let message = format!("must be {floor} or later");
            ApiError { causes: vec![cause(field, message)], ..ApiError::new(StatusCode::GONE, title, details) }
        }
        StoreError::Future { asked, latest } => {
            let message = format!("there is no revision {asked}: the latest one is {latest}");
            ApiError::invalid(title, vec![cause(field, message)])
        }
        error => ApiError::store(title, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_and_times() {
        let time = |text: &str| Ok(Asked::Past(Moment::Time(text.parse().expect("a time"))));
        assert_eq!(Asked::parse("412"), Ok(Asked::Past(Moment::Revision(412))));
        assert_eq!(Asked::parse("0"), Ok(Asked::Past(Moment::Revision(0))));
        assert_eq!(Asked::parse("latest"), Ok(Asked::Latest));
        assert_eq!(Asked::parse("2026-11-30T14:00:00Z"), time("2026-11-30T14:00:00Z"));
        assert_eq!(Asked::parse("2026-11-30T15:00:00.25+01:00"), time("2026-11-30T14:00:00.25Z"));
        assert_eq!(Asked::parse("2026-11-30T15:00:00 01:00"), time("2026-11-30T14:00:00Z"), "a + in a query");
        for wrong in ["", "-1", "1.5", "412 ", "yesterday", "2026-11-30", "2026-11-30T14:00:00", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(Asked::parse(wrong), Err(FORMS.to_owned()), "{wrong:?}");
        }
        assert!(Asked::parse("99999999999999999999").is_err_and(|wrong| wrong.contains("too large")));
        assert_eq!(Asked::read(&412.into()), Ok(Asked::Past(Moment::Revision(412))));
        assert_eq!(Asked::read(&"412".into()), Ok(Asked::Past(Moment::Revision(412))));
        for wrong in [Value::Null, (-1).into(), 1.5.into(), true.into()] {
            assert_eq!(Asked::read(&wrong), Err(FORMS.to_owned()), "{wrong}");
        }
    }
}
