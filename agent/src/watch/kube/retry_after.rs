//! When the API server, overloaded, asks to be left alone for a while (`Retry-After` with 429 or 503). The header is
//! noted here as it passes: of a failed request, the client library hands on the status alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// More than that is not waited: the server's clock or a proxy in between may be wrong, and endpoints move meanwhile.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub(super) struct RetryAfter(Arc<Mutex<Option<Instant>>>);

impl RetryAfter {
    /// Takes note, and hands the response on.
    pub(super) fn note<B>(&self, response: http::Response<B>) -> http::Response<B> {
        let status = response.status();
        if status == http::StatusCode::TOO_MANY_REQUESTS || status == http::StatusCode::SERVICE_UNAVAILABLE {
            let header = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            if let Some(seconds) = header.and_then(|value| value.parse().ok()) {
                let until = Instant::now() + Duration::from_secs(seconds).min(LONGEST);
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
            }
        }
        response
    }

    /// No request is welcome before.
    pub(super) fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
