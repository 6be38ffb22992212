//! Label and field selectors, as far as watchers of these kinds use them.

use serde_json::Value;

use super::{
    request::{Kind, Request},
    store::Object,
};

/// All requirements of a request; an object must meet each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    field: Option<Field>,
}

/// The one field that is asked for, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Name(String),
    NodeName(String),
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
        let field = match (request.parameter("fieldSelector").split_once('='), request.kind) {
            (None, _) => None,
            (Some(("metadata.name", name)), _) => Some(Field::Name(name.to_owned())),
            // Of other kinds the real server refuses it.
            (Some(("spec.nodeName", node)), Kind::Pod) => Some(Field::NodeName(node.to_owned())),
            (Some(_), kind) => {
                let fields = request.parameter("fieldSelector");
                return Err(format!("field selector of {} not supported by the double: {fields}", kind.name()));
            }
        };
        Ok(Self { labels, field })
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        let field = match &self.field {
            None => true,
            Some(Field::Name(name)) => object.metadata["name"] == name.as_str(),
            Some(Field::NodeName(node)) => object.node_name == node.as_str(),
        };
        field && self.labels.iter().all(|requirement| requirement.is_met(&object.metadata["labels"]))
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

    fn request(kind: Kind, parameter: &str, value: &str) -> Request {
        let query = [(parameter.to_owned(), value.to_owned())].into();
        Request { kind, verb: super::super::Verb::List, query }
    }

    #[test]
    fn labels_are_asked_for_by_presence_and_by_value() {
        let object = Object::new(&json!({"metadata": {"name": "a", "labels": {"app": "cart", "empty": ""}}}));
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
            let request = request(Kind::Service, "labelSelector", labels);
            assert_eq!(Selector::of(&request).unwrap().matches(&object), matches, "{labels}");
        }
    }

    #[test]
    fn objects_are_asked_for_by_name_and_pods_by_their_node() {
        let pod = Object::new(&json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}}));
        for (field, matches) in [
            ("metadata.name=a", true),
            ("metadata.name=n1", false),
            ("spec.nodeName=n1", true),
            ("spec.nodeName=n2", false),
        ] {
            let request = request(Kind::Pod, "fieldSelector", field);
            assert_eq!(Selector::of(&request).unwrap().matches(&pod), matches, "{field}");
        }
        assert!(Selector::of(&request(Kind::Service, "fieldSelector", "spec.nodeName=n1")).is_err());
    }
}
