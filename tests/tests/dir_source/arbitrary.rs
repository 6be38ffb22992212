//! Manifests made up at random: whatever somebody puts into a file, nothing falls over, nothing that was good suffers, and
//! nothing is left out without a word.

use std::fs;

use millrace_agent::{
    model::{EndpointSlice, Service},
    watch::Rejection,
};
use millrace_tests::view::View;
use proptest::{collection::vec, prelude::*, sample::Index, sample::select};
use serde_json::{Map, Value, json};

use crate::source::{Source, service};

/// What the source says of these files, and of one more that is good.
fn read(files: &[(&str, &[u8])]) -> View {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source = runtime.block_on(Source::start(|root| {
        files.iter().for_each(|(name, bytes)| fs::write(root.join(name), bytes).unwrap());
        fs::write(root.join("good.yaml"), service("good", "10.96.9.9")).unwrap();
    }));
    let view = source.view;
    assert_eq!(view.cluster_ip("shop/good").as_deref(), Some("10.96.9.9"), "another file does not suffer");
    for Rejection { object, reason, .. } in &view.rejected {
        assert!(!reason.contains("gave up"), "{object}: {reason}");
        assert!(reason.lines().count() == 1 && !object.is_empty(), "{object}: {reason}");
    }
    view
}

fn names(rejection: &Rejection, name: &str) -> bool {
    rejection.object.contains(name) || rejection.reason.contains(name)
}

/// Strings that mean something else in YAML where nobody quotes them.
fn odd() -> impl Strategy<Value = String> {
    const TRICKY: [&str; 30] = [
        "",
        " ",
        "~",
        "no",
        "None",
        "null",
        "0x10",
        "1e3",
        "12:30",
        "- a",
        "a: b",
        "#x",
        "a #b",
        "---",
        "...",
        "'",
        "\"",
        "&a",
        "*a",
        "!x",
        "%Y",
        "@",
        "`",
        "\t",
        "a\n---\nkind: Service\n",
        "\n\n",
        "line\r\n",
        "é\u{2028}\u{feff}",
        "{",
        "]",
    ];
    prop_oneof![3 => select(&TRICKY[..]).prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        odd().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((odd(), inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A Service or a slice by this name, as a controller or an operator writes it, with notes of somebody's own.
fn object(name: String) -> impl Strategy<Value = Value> {
    (any::<bool>(), 1..9_u16, any::<bool>(), vec((odd(), odd()), 0..4)).prop_map(move |(is_slice, n, flag, notes)| {
        let annotations: Map<String, Value> = notes.into_iter().map(|(key, note)| (key, note.into())).collect();
        if is_slice {
            let endpoint =
                |at| json!({"addresses": [format!("10.0.0.{at}")], "nodeName": "n1", "conditions": {"ready": flag}});
            return json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": "cart"},
                    "annotations": annotations,
                },
                "ports": [{"name": "http", "port": 8000 + n}],
                "endpoints": (1..n).map(endpoint).collect::<Vec<_>>(),
            });
        }
        let policy = if flag { "Local" } else { "Cluster" };
        let port = |at: u16| json!({"name": format!("p{at}"), "port": 80 + at, "protocol": "TCP"});
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "shop", "name": name, "annotations": annotations},
            "spec": {
                "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "internalTrafficPolicy": policy,
                "ports": (0..n).map(port).collect::<Vec<_>>(),
            },
        })
    })
}

fn objects() -> impl Strategy<Value = Vec<Value>> {
    let one: Vec<_> = (0..4).map(|at| object(format!("object-{at}"))).collect();
    one.prop_flat_map(|objects| (1..=objects.len(), Just(objects)))
        .prop_map(|(count, objects)| objects.into_iter().take(count).collect())
}

fn yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{}\n", serde_saphyr::to_string(object).unwrap())).collect()
}

/// A file that means something, with bytes of it changed, put in or taken out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(&b"-:{}[]#&*!|>'\"%@,? \n\t~.\0\xff"[..]), any::<u8>()];
    (objects(), vec((any::<Index>(), 0..3_usize, byte), 1..6)).prop_map(|(objects, edits)| {
        let mut bytes = yaml(&objects).into_bytes();
        for (at, removed, inserted) in edits {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + removed);
            bytes.splice(at..end, [inserted]);
        }
        bytes
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        2 => "[-:{}\\[\\]#&*!|>'\"%@,? \n\tab01~.]{0,60}".prop_map(String::into_bytes),
        4 => damaged(),
    ]
}

/// Only comments, directives, documents that are empty, and nobody's business.
fn says_nothing(text: &str) -> bool {
    let is_remark = |line: &str| line.trim().is_empty() || line.trim_start().starts_with(['#', '%']);
    let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    let is_silent = |document: &Value| document.is_null() || is_nobodys_business(document);
    text.lines().all(is_remark) || documents.is_ok_and(|documents| documents.iter().all(is_silent))
}

/// Fields of an object, and of what is in it.
fn paths(value: &Value, above: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.replace('~', "~0").replace('/', "~1"), field)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let path = format!("{above}/{name}");
        paths(child, &path, found);
        found.push(path);
    }
}

/// The object with one of its fields set to something else.
fn spoilt() -> impl Strategy<Value = Value> {
    (object("spoilt".to_owned()), any::<Index>(), anything()).prop_map(|(mut object, at, value)| {
        let mut found = Vec::new();
        paths(&object, "", &mut found);
        *object.pointer_mut(&found[at.index(found.len())]).unwrap() = value;
        object
    })
}

/// Nothing for a service proxy, and no mistake: headless, without an address, or a slice of no Service or of names.
fn is_nobodys_business(object: &Value) -> bool {
    let is_none = |value: &Value| value.is_null() || value == "" || value == "None";
    match object["kind"].as_str() {
        Some("Service") => {
            let spec = &object["spec"];
            let no_address = is_none(&spec["clusterIP"]) || is_none(&spec["clusterIPs"][0]);
            spec.is_object() && (no_address || spec["type"] == "ExternalName")
        }
        Some("EndpointSlice") => {
            let service = &object["metadata"]["labels"]["kubernetes.io/service-name"];
            is_none(service) || object["addressType"] == "FQDN"
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_file_of_any_bytes_is_read_or_named(bytes in any_bytes(), json in any::<bool>()) {
        let file = if json { "any.json" } else { "any.yaml" };
        let view = read(&[(file, &bytes)]);
        let said = view.services.len() > 1 || !view.slices.is_empty() || view.health.other_kinds.get() > 0;
        let named = view.rejected.iter().any(|rejection| names(rejection, file));
        let text = String::from_utf8(bytes);
        let silent = text.as_ref().is_ok_and(|text| if json { text == "null" } else { says_nothing(text) });
        prop_assert!(said || named || silent, "nobody hears of it: {text:?}");
    }

    #[test]
    fn an_object_with_a_field_of_any_value_is_served_or_named_and_spoils_no_other(
        spoilt in spoilt(), others in objects(), at in any::<Index>(),
    ) {
        let mut documents = others.clone();
        documents.insert(at.index(others.len() + 1), spoilt.clone());
        let view = read(&[("shop.yaml", yaml(&documents).as_bytes())]);
        for other in &others {
            let key = format!("shop/{}", other["metadata"]["name"].as_str().unwrap());
            prop_assert!(view.services.contains_key(&key) || view.slices.contains_key(&key), "{key}: {:?}", view.rejected);
        }
        // More than the others and the good one.
        let served = view.services.len() + view.slices.len() > others.len() + 1;
        let named = view.rejected.iter().any(|it| names(it, "shop.yaml"));
        let other_kind = view.health.other_kinds.get() > 0;
        prop_assert!(served || named || other_kind || is_nobodys_business(&spoilt), "nobody hears of it: {spoilt}");
    }

    #[test]
    fn an_object_means_the_same_in_yaml_and_in_json(objects in objects()) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let from_yaml = read(&[("shop.yaml", yaml(&objects).as_bytes())]);
        let from_list = read(&[("shop.json", list.as_bytes())]);
        prop_assert_eq!(&from_yaml.services, &from_list.services);
        prop_assert_eq!(&from_yaml.slices, &from_list.slices);
        prop_assert_eq!(&from_yaml.rejected, &[]);
        for object in objects {
            let key = format!("shop/{}", object["metadata"]["name"].as_str().unwrap());
            if object["kind"] == "Service" {
                let direct = Service::from_resource(&serde_json::from_value(object).unwrap(), None).unwrap().unwrap();
                prop_assert_eq!(&from_yaml.services[&key], &direct.value);
            } else {
                let direct = EndpointSlice::from_resource(&serde_json::from_value(object).unwrap(), None).unwrap().unwrap();
                prop_assert_eq!(&from_yaml.slices[&key], &direct.value);
            }
        }
    }
}
