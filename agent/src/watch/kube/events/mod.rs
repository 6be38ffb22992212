//! Warnings become Events, which `kubectl describe` shows beside the object: a few of each, as [`allowance`] says, and those
//! that repeat themselves as one that counts. Nothing waits for them, and the log has said it all.

mod allowance;

use std::{fmt::Debug, time::Instant};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{self as core, ObjectReference},
        discovery::v1 as discovery,
    },
};
use kube::{
    Api, Client, Error,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use self::allowance::Allowance;
use super::Connection;
use crate::watch::{ObjectKey, Warning};

const CONTROLLER: &str = "millrace-agent";
/// An Event's note may have 1 kB.
const NOTE_BYTES: usize = 1000;

/// Goes on until nobody warns any more. An API server that refuses is named once, and asked again with the next warning.
pub async fn write(connection: Connection, node: &str, mut warnings: mpsc::Receiver<Warning>) {
    let Connection { client, url, .. } = connection;
    let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(node.to_owned()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut allowance = Allowance::new(Instant::now());
    let mut said = false;
    while let Some(warning) = warnings.recv().await {
        if !allowance.admit(&warning.object, Instant::now()) {
            debug!(object = %warning.object, "no more Events of this object, or of so many, for a while");
            continue;
        }
        match publish(&client, &recorder, &warning).await {
            Ok(()) => said = false,
            Err(error) if said => debug!(object = %warning.object, %error, "no Event is written"),
            Err(error) => {
                said = true;
                let remedy = match &error {
                    Error::Api(status) if status.code == 403 => {
                        "let the agent's service account create and patch events of the group events.k8s.io"
                    }
                    _ => "none needed if it passes",
                };
                warn!(object = %warning.object, url, %error, remedy, "no Event is written; the log tells the same");
            }
        }
    }
}

async fn publish(client: &Client, recorder: &Recorder, warning: &Warning) -> Result<(), Error> {
    let reference = match &warning.object {
        ObjectKey::Service(key) => reference::<core::Service>(client, key.parts()).await?,
        ObjectKey::EndpointSlice(key) => reference::<discovery::EndpointSlice>(client, key.parts()).await?,
        // Nobody warns of them.
        ObjectKey::ServiceCidr(_) | ObjectKey::Node(_) | ObjectKey::Pod(_) | ObjectKey::Namespace(_) => None,
    };
    // Gone meanwhile: nobody would see it.
    let Some(reference) = reference else { return Ok(()) };
    let event = Event {
        type_: EventType::Warning,
        reason: warning.reason.name().to_owned(),
        note: Some(shortened(&warning.note).to_owned()),
        action: "Program".to_owned(),
        secondary: None,
    };
    recorder.publish(&event, &reference).await
}

/// With the uid, by which `kubectl describe` finds an object's Events. It is asked for here: to keep those of a whole cluster
/// would take more memory than warnings are worth.
async fn reference<K>(client: &Client, (namespace, name): (&str, &str)) -> Result<Option<ObjectReference>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + k8s_openapi::Resource,
    K: Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    let Some(found) = objects.get_metadata_opt(name).await? else { return Ok(None) };
    Ok(Some(ObjectReference {
        api_version: Some(<K as k8s_openapi::Resource>::API_VERSION.to_owned()),
        kind: Some(<K as k8s_openapi::Resource>::KIND.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: found.metadata.uid,
        // With a version, what repeats itself would be another Event after each change of the object.
        ..ObjectReference::default()
    }))
}

fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_BYTES)]
}
