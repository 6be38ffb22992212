//! Label and field selectors, as far as watchers of these kinds use them.

use serde_json::Value;

use super::request::Request;

/// All requirements of a request; an object must meet each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Present(String),
    Absent(String),
    Is(String, String),
    IsNot(String, String),
}

impl Selector {
    /// The error is what the real server would refuse or the double does not speak.
    pub(super) fn of(request: &Request) -> Result<Self, String> {
        let labels = request.parameter("labelSelector");
        let labels =
            labels.split(',').filter(|part| !part.is_empty()).map(Requirement::parse).collect::<Result<_, _>>()?;
        let name = match request.parameter("fieldSelector") {
            "" => None,
            fields => match fields.strip_prefix("metadata.name=") {
                Some(name) => Some(name.to_owned()),
                None => return Err(format!("field selector not supported by the double: {fields}")),
            },
        };
        Ok(Self { labels, name })
    }

    pub(super) fn matches(&self, metadata: &Value) -> bool {
        self.name.as_ref().is_none_or(|name| metadata["name"] == name.as_str())
            && self.labels.iter().all(|requirement| requirement.is_met(&metadata["labels"]))
    }
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains(['(', ' ', '<', '>']) {
            return Err(format!("label selector not supported by the double: {text}"));
        }
        Ok(match (text.split_once("!="), text.split_once('='), text.strip_prefix('!')) {
            (Some((label, value)), ..) => Self::IsNot(label.to_owned(), value.to_owned()),
            (_, Some((label, value)), _) => Self::Is(label.to_owned(), value.trim_start_matches('=').to_owned()),
            (_, _, Some(label)) => Self::Absent(label.to_owned()),
            _ => Self::Present(text.to_owned()),
        })
    }

    fn is_met(&self, labels: &Value) -> bool {
        match self {
            Self::Present(label) => labels.get(label).is_some(),
            Self::Absent(label) => labels.get(label).is_none(),
            Self::Is(label, value) => labels.get(label).is_some_and(|found| found == value.as_str()),
            Self::IsNot(label, value) => labels.get(label).is_none_or(|found| found != value.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_asked_for_by_presence_and_by_value() {
        let metadata = json!({"name": "a", "labels": {"app": "cart", "empty": ""}});
        for (labels, matches) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!other,app=cart", true),
            ("app==cart", true),
            ("app!=cart", false),
            ("other!=cart", true),
            ("empty", true),
            ("!empty", false),
        ] {
            let query = [("labelSelector".to_owned(), labels.to_owned())].into();
            let request = Request { kind: super::super::Kind::Service, verb: super::super::Verb::List, query };
            assert_eq!(Selector::of(&request).unwrap().matches(&metadata), matches, "{labels}");
        }
    }
}
